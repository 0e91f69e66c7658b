"""Many prompts: where they come from, where the results go, and how a run is taken up again."""
