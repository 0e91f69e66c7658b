"""What `ops check` does: rules of op packages on examples, against the references."""
