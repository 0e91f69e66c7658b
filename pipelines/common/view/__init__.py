"""What a graph consists of, and its picture."""
