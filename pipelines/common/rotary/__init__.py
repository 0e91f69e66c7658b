"""Rotary positions: frequencies, their scaling for longer contexts, tables of angles."""
