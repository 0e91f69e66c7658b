"""What a model on the disk gives: its numbers, its tensors, and where they fit in a network."""
