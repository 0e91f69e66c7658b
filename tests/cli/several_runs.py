"""Runs the program again and again in one process, for programs of tests.

It is one itself: its argument is a JSON list of command lines; it prints what became of them.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from pipelines.common.cli import main


def run(args: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; the code is -1 where the program ends with a traceback."""
    sys.argv = ["run_pipeline.py", *args]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), out.getvalue(), err.getvalue()
        except BaseException as error:  # noqa: BLE001 - it is what is looked for
            return -1, out.getvalue(), repr(error)
    return 0, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    print(json.dumps([run(args) for args in json.loads(sys.argv[1])]))
