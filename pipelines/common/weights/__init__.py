"""Model files: one file a format, the encodings of tensors, and what each weight runs in."""
