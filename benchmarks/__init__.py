"""Measures the project; see README.md for what each command prints."""
