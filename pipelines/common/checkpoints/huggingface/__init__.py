"""Folders of models as Hugging Face's hub has them: ``config.json`` and safetensors."""
