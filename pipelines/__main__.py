"""``python -m pipelines`` is ``run-pipeline``."""

import sys

try:
    from pipelines.common.cli import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.argv[0] = "python -m pipelines"
    main()
