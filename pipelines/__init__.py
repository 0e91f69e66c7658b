"""A pipeline driver for language models, and the pipelines that ship with it."""

__version__ = "0.1.0"
