"""Runs the program several times as somebody who may not do everything, as root may.

Its arguments are JSON lists of command lines. The first are run with all privileges, for what they
import, which may be in folders that only root may enter; it prints what became of the others.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys

from pipelines.common.cli import main

NOBODY = 65534


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
    first, others = map(json.loads, sys.argv[1:3])
    for args in first:
        run(args)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    print(json.dumps([run(args) for args in others]))
