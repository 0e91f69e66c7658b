"""What plugins bring, by name."""
