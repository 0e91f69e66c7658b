"""Custom op packages: operators that are replaced, fused or added, from a path."""

NATIVE = "native"
"""The op package that ships with the project and can be left out."""

NATIVE_TARGET = "cpu"
"""The target that it is for."""
