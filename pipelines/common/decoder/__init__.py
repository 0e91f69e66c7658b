"""Decoder-only language models from a model file, whatever their architecture."""
