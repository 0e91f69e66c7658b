"""Llama 2: the network of Llama 3, and a chat format of its own."""
