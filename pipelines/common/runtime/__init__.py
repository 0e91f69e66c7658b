"""Sampling, the generation loop and its figures: arrays and callables, no torch, no ONNX Runtime."""
