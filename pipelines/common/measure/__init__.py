"""What a model is worth: how well it expects a text."""
