"""Checks of pipelines and targets that plugins bring, on random weights; see `checks`."""
