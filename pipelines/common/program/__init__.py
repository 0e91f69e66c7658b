"""A network with its weights as targets take it, and what targets make of it."""
