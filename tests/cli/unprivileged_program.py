"""Runs the program several times without the privileges that let root enter and read everything.

Its argument is a JSON list of command lines; it prints what became of them. The user stays, for
others may not be able to enter the folder of Python's packages.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

from several_runs import run

VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3 of <linux/capability.h>


def drop_capabilities() -> None:
    """Gives up what `capset(2)` calls the effective and permitted sets, if this is root."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header, nothing = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
        if libc.capset(header, nothing):
            raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    closed, commands = Path(sys.argv[1]), json.loads(sys.argv[2])
    drop_capabilities()
    try:
        list(closed.iterdir())
    except PermissionError:
        print(json.dumps([run(args) for args in commands]))
    else:
        raise SystemExit(f"{closed} can be entered all the same")
