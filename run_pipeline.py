"""Runs a pipeline: ``python run_pipeline.py llama3 --prompt "..."``."""

from pipelines.common.cli import main

if __name__ == "__main__":
    main()
