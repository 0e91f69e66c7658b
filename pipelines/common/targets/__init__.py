"""One file a target: whether it is here, its rewrite rules, its runner."""
