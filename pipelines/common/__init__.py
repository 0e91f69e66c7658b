"""Everything that is not about one model."""
