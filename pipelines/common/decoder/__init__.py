"""The numbers of decoders: read from a checkpoint, checked, and made into rotary tables."""
