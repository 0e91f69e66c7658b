"""Starts of plugins: what `run-pipeline new` writes."""
