from __future__ import annotations

import json
import os

import pytest

PLUGIN = """
from pipelines.common.registry.hookspecs import TargetRecord, hookimpl

@hookimpl
def register_targets():
    return [TargetRecord("quantum", "Qubits.", requires=("no_qubits",), load=None)]
"""


def test_list_tells_where_everything_came_from(cli, make_plugin):
    path = make_plugin("quantum", PLUGIN.replace("None", "object"))
    lines = cli("--plugin-path", path, "list").out.splitlines()
    headings = [line for line in lines if not line.startswith(" ")]
    assert headings == [
        "Pipelines",
        "Tasks",
        "Targets",
        "Weight formats",
        "Tokenizers",
        "Op packages",
    ]
    rows = {line.split()[0]: line for line in lines if line.startswith(" ")}
    assert "[built-in" in rows["llama3"]
    assert "[built-in" in rows["gguf"]
    assert f"Qubits. [{path}; unavailable: needs no_qubits]" in rows["quantum"]


def test_list_as_json(cli, make_plugin):
    good = make_plugin("quantum", PLUGIN.replace("None", "object"))
    bad = make_plugin("bad", "1 / 0")
    outcome = cli("--plugin-path", good, "--plugin-path", bad, "list", "--json")
    record = json.loads(outcome.out)
    targets = {row["name"]: row for row in record["targets"]}
    assert targets["quantum"] == {
        "name": "quantum",
        "summary": "Qubits.",
        "plugin": "quantum",
        "provenance": str(good),
        "missing": ["no_qubits"],
        "state": "unavailable: needs no_qubits",
    }
    assert targets["cpu"]["provenance"] == "built-in"
    assert {"llama3", "echo"} <= {row["name"] for row in record["pipelines"]}
    (problem,) = record["problems"]
    assert "plugin 'bad'" in problem


OP_PACKAGE_PLUGIN = """
from pathlib import Path
from pipelines.common.registry.hookspecs import OpPackageRecord, hookimpl

@hookimpl
def register_op_packages():
    here = Path(__file__).parent
    return [OpPackageRecord(name, "Kernels.", here / name) for name in ("kernels", "gone")]
"""


def test_list_tells_which_op_packages_can_be_used(cli, make_plugin):
    plugin = make_plugin("kernels_plugin", OP_PACKAGE_PLUGIN)
    folder = plugin.parent / "kernels"
    folder.mkdir()
    (folder / "op_package.toml").write_text('library = "kernels"')

    def packages():
        record = json.loads(cli("--plugin-path", plugin, "list", "--json").out)
        return {row["name"]: row["state"] for row in record["op_packages"]}

    assert "native" in packages()
    assert packages()["kernels"] == "library not built"
    assert "no such op package" in packages()["gone"]
    for suffix in ("so", "dylib"):
        (folder / f"libkernels.{suffix}").touch()
    assert packages()["kernels"] == ""
    text = cli("--plugin-path", plugin, "list").out
    assert f"Kernels. [{plugin}; for those who name it, with --custom-ops-path kernels]" in text


PIPELINE = """
from pipelines.common.registry.hookspecs import PipelineRecord
from pipelines.echo.pipeline import EchoPipeline

@hookimpl
def register_pipelines():
    return [PipelineRecord(name, "Summary.", load=EchoPipeline) for name in ("one", "two")]
"""


@pytest.mark.parametrize(
    ("everywhere", "text", "record"),
    [(False, "for one, two", ["one", "two"]), (True, "for every pipeline", None)],
)
def test_list_tells_whom_an_op_package_is_for(cli, make_plugin, everywhere, text, record):
    source = OP_PACKAGE_PLUGIN.replace("here / name)", f"here / name, everywhere={everywhere})")
    plugin = make_plugin("kernels_plugin", source + PIPELINE)
    (plugin.parent / "kernels").mkdir()
    (plugin.parent / "kernels" / "op_package.toml").write_text('library = "kernels"')
    shown = cli("--plugin-path", plugin, "list").out
    assert f" kernels Kernels. [{plugin}; {text}; library not built]" in " ".join(shown.split())
    assert "[built-in; for every pipeline" in shown
    rows = json.loads(cli("--plugin-path", plugin, "list", "--json").out)["op_packages"]
    assert {row["name"]: row["pipelines"] for row in rows}["kernels"] == record


def test_list_tells_which_libraries_are_old(cli, make_plugin):
    plugin = make_plugin("kernels_plugin", OP_PACKAGE_PLUGIN)
    folder = plugin.parent / "kernels"
    folder.mkdir()
    (folder / "op_package.toml").write_text('library = "kernels"')
    (folder / "CMakeLists.txt").touch()
    for suffix in ("so", "dylib"):
        (folder / f"libkernels.{suffix}").touch()
        os.utime(folder / f"libkernels.{suffix}", (1e9, 1e9))
    text = cli("--plugin-path", plugin, "list").out
    assert "; library is older than CMakeLists.txt]" in text
