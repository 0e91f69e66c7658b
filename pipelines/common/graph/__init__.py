"""From a torch module to a target's graph: build, lower, keep."""
