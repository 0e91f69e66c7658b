"""Sampling, the generation loop and its figures, on arrays and callables alone."""
