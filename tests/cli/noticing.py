"""A process of its own, in which a graph is kept, and then looked for after files have changed."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]

LIBRARIES = ("onnx_ir.passes.common", "onnxscript.rewriter", "rich.progress", "tokenizers", "typer")


def is_noticed(folder: Path, args: Sequence[str], names: Sequence[str], *, fresh: bool) -> bool:
    """Whether a graph is made anew after files have changed.

    Args:
        folder: The working directory, with the cache and a ``library`` that can be imported from.
        args: Of a command line that makes a graph.
        names: The files.
        fresh: Whether the driver and all libraries are yet to be imported. Otherwise libraries that
            make graphs have been, which is most of what such a process would take.
    """
    context = multiprocessing.get_context("spawn" if fresh else "forkserver")
    context.set_forkserver_preload([*LIBRARIES])  # of the latter
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        return pool.submit(_is_noticed, folder, args, names).result()


def _is_noticed(folder: Path, args: Sequence[str], names: Sequence[str]) -> bool:
    os.environ["RUN_PIPELINE_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    sys.path[:0] = [str(ROOT), str(folder / "library")]
    from several_runs import run

    for more in ([], ["--offline"]):
        code, _, told = run([*args, *more])
        assert code == 0, told
    for name in names:
        path = folder / name
        path.write_text(path.read_text() + " # edited")
    code, _, told = run([*args, "--offline"])
    assert code == 0 or "is not in the cache" in told
    return code != 0
