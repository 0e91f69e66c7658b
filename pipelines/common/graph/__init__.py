"""From a network to a target's graph: build and lower."""
