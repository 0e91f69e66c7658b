"""Models in Python: what `import pipelines` gives."""
