"""What a model is worth: how well it expects a text, and how fast it is."""
