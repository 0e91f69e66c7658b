"""Computes sequences side by side: continuous batching, sampling, where texts end."""
