"""A pipeline without weights, which repeats its prompt."""
