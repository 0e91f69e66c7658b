"""Sampling, the scheduler and its figures, on arrays and callables alone."""
