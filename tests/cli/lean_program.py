"""Runs the program where whatever builds graphs and converts weights cannot be imported."""

from __future__ import annotations

import sys

ABSENT = ("torch", "onnx", "onnx_ir", "onnxscript", "gguf")


class Absent:
    """A finder that comes before the others and refuses."""

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002 - the protocol's
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"{name} is not to be imported here")


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    from pipelines.common.cli import main

    main()
