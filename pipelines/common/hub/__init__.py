"""Models by their names on Hugging Face's hub, fetched by the `huggingface_hub` package."""
