"""Folders that hold a model lowered for one target, with its weights and its tokenizer."""
