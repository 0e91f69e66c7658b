"""Computes sequences side by side: the scheduler, sampling, where texts end."""
