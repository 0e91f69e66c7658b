"""Runs the program several times as somebody who may not do everything, as root may.

Its arguments are JSON lists of command lines. The first are run with all privileges, for what they
import, which may be in folders that only root may enter; it prints what became of the others.
"""

from __future__ import annotations

import json
import os
import sys

from several_runs import run

NOBODY = 65534

if __name__ == "__main__":
    first, others = map(json.loads, sys.argv[1:3])
    for args in first:
        run(args)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    print(json.dumps([run(args) for args in others]))
