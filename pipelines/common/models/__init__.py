"""From what a user names to a model that is ready to start."""
