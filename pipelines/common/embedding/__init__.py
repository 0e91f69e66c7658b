"""Texts whose vectors are asked for."""
