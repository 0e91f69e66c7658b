"""Custom op packages: operators that are replaced, fused or added, from a path."""
