"""Folders of models as Meta gives them out: ``params.json`` and ``consolidated.*.pth``."""
