"""Runs the program several times where packages are missing, or of other versions.

Its arguments are JSON: the modules that are missing, the versions of distributions by name (null
for none), and a list of command lines; it prints what became of each, likewise.
"""

from __future__ import annotations

import json
import sys

from pipelines.common import dependencies


class Absent:
    """A finder that comes before the others and refuses."""

    def __init__(self, modules):
        self.modules = modules

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002 - the protocol's
        if name.partition(".")[0] in self.modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def other_versions(versions):
    """What `dependencies.version` is where distributions have these."""
    real = dependencies.version

    def version(name):
        return versions[name] if name in versions else real(name)

    return version


if __name__ == "__main__":
    absent, versions, lines = map(json.loads, sys.argv[1:])
    sys.meta_path.insert(0, Absent(absent))
    dependencies.version = other_versions(versions)
    from several_runs import run

    print(json.dumps([run(args) for args in lines]))
