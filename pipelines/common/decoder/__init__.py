"""What decoders have in common, without a file and without PyTorch."""
