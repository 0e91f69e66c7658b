"""Models of every format written as GGUF files, as they are stored or in fewer bits."""
