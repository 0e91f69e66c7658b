"""A file that is cut short while it is mapped: one line, and no core dump."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
from gguf import GGMLQuantizationType as Type

from pipelines.common.export.write import export
from pipelines.common.registry.registry import Registry

SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"

CUT = """
import os
from {module} import {owner} as owner
from pipelines.common.registry.hookspecs import hookimpl

whole = owner.{name}

def cut(*args, **options):
    {before}
    result = whole(*args, **options)
    {after}
    return result

owner.{name} = cut

@hookimpl
def register_pipelines():
    return []
"""

MOMENTS = {
    "mapped": ("pipelines.common.checkpoints", "model_file", "map_file", "after"),
    "compiled": ("pipelines.common.targets", "cpu", "compile_graph", "before"),
    "run": ("pipelines.common.targets", "cpu", "CpuRunner", "after"),
}


def cutting(folder, file, moment):
    """A plugin that cuts the file at a moment of the run."""
    module, owner, name, when = MOMENTS[moment]
    cut = f"os.truncate({str(file)!r}, 4096)"
    parts = {"before": "pass", "after": "pass", when: cut}
    path = folder / "cut.py"
    path.write_text(CUT.format(module=module, owner=owner, name=name, **parts))
    return path


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    """Its embedding runs in float32, as all of it does with that encoding."""
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    return tiny_models.write_gguf(path, tiny_models.llama(), Type.F32)


def run(plugin, model, *options):
    args = ["--plugin-path", plugin, "llama3", "--model-path", model, "--target", "cpu"]
    args += ["--prompt", "then", "--max-new-tokens", "2", "--quiet", *options]
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, args)], capture_output=True, text=True, check=False
    )


def check(done, file):
    assert done.stderr == (
        f"run_pipeline: error: {file} was cut short while it was read; bring it back as it was,"
        " and run again\n"
    )
    assert done.returncode == 1


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_model_file(gguf_file, tmp_path, moment, native):
    if native and (state := Registry.discover().op_packages["native"].state()):
        pytest.skip(f"native kernels: {state}")
    file = shutil.copy(gguf_file, tmp_path / "model.gguf")
    options = ["--quantization-encoding", "float32"] + ["--no-native-ops"] * (not native)
    check(run(cutting(tmp_path, file, moment), file, *options), file)


@pytest.mark.parametrize("moment", ["compiled", "run"])
def test_an_exported_folder(gguf_file, tmp_path, moment):
    folder = tmp_path / "folder"
    export(tiny_models.open_model(gguf_file), "cpu", folder, reference_weights=False)
    file = folder / "weights.bin"
    check(run(cutting(tmp_path, file, moment), folder, "--no-native-ops"), file)


def test_any_other_bus_error_ends_as_it_does():
    code = (
        "from pipelines.common.checkpoints.mapped import end_when_cut_short\n"
        "import os, signal\n"
        "end_when_cut_short(print)\n"
        "os.kill(os.getpid(), signal.SIGBUS)\n"
        "os.kill(os.getpid(), signal.SIGBUS)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, b"")
