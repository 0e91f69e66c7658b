"""The block formats that weights are stored and run in."""
