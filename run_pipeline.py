"""Runs a pipeline: ``python run_pipeline.py llama3 --prompt "..."``."""

import sys

try:
    from pipelines.common.cli import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    main()
