"""Checks the module that registers a plugin: it runs at every start of the program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from pipelines.common.importing import PREFIX
from pipelines.common.pipeline_check.outcome import CheckFailedError, require
from pipelines.common.registry.plugins import Plugin

HEAVY: Final = (
    "gguf",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "onnxscript",
    "tokenizers",
    "torch",
    "transformers",
)
"""What is not to be imported for a list of names."""

_SLOWEST_S: Final = 0.2
"""Processor time that it may take; the whole of ``list`` takes about as long."""

_PROGRAM: Final = """
import importlib, json, sys, time
from pathlib import Path
from pipelines.common.importing import import_from
from pipelines.common.registry.hookspecs import PROJECT
import pipelines.plugin

where, module, out = sys.argv[1:]
before, start = set(sys.modules), time.process_time()
plugin = import_from(Path(where)) if where else importlib.import_module(module)
for hook in list(vars(plugin).values()):
    if hasattr(hook, f"{PROJECT}_impl"):
        list(hook())
seconds = time.process_time() - start
imported = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
Path(out).write_text(json.dumps([seconds, imported]))
"""


def check_module(plugin: Plugin) -> str:
    """A plugin is registered quickly, silently, and without what is heavy.

    Args:
        plugin: The plugin, whose module has been imported.
    """
    assert plugin.module is not None  # what it registers is there
    module = plugin.module.__name__
    where = plugin.provenance if module.startswith(PREFIX) else ""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, where, module, str(out)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
        )
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise CheckFailedError(f"it cannot be imported alone: {last}")
        seconds, imported = json.loads(out.read_bytes())
    printed = (done.stdout + done.stderr).strip()
    require(not printed, f"it prints {printed.splitlines()[0] if printed else ''!r} when imported")
    heavy = [name for name in HEAVY if name in imported]
    require(not heavy, f"it imports {', '.join(heavy)}; import them where they are used")
    require(
        seconds <= _SLOWEST_S, f"it takes {seconds:.2f} s to import, {_SLOWEST_S} s are allowed"
    )
    return f"{1000 * seconds:.0f} ms, prints nothing"
