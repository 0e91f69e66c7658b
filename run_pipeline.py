"""Runs a pipeline: ``python run_pipeline.py llama3 --prompt "..."``."""

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder


class _Beside(PathFinder):
    """Finds the driver beside this script, whatever else is installed."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None) -> ModuleSpec | None:  # type: ignore
        """The driver's own modules; none of others."""
        if fullname.partition(".")[0] != "pipelines":
            return None
        beside = [os.path.dirname(os.path.realpath(__file__))]  # noqa: PTH120
        return super().find_spec(fullname, beside if path is None else path, target)


# An editable installation, as of another checkout, has a finder that is asked before `sys.path`;
# with `python -P` the script's folder is not even there.
sys.meta_path.insert(0, _Beside)

try:
    from pipelines.common.cli import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    main()
