"""The numbers of encoders of texts."""
