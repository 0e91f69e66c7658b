"""``doctor``: what it tells of a healthy installation, and of each thing that can be wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from programs import ROOT

from pipelines.common import dependencies
from pipelines.common.cache import Cache
from pipelines.common.cli import diagnosis

pytestmark = pytest.mark.usefixtures("own_cache")

PLUGIN = """
from pathlib import Path
from pipelines.plugin import OpPackageRecord, TargetRecord, hookimpl

@hookimpl
def register_targets():
    return [TargetRecord("broken", "B.", requires=(), load=lambda: 1 / 0, preference=99)]

@hookimpl
def register_op_packages():
    return [OpPackageRecord("kernels", "K.", Path(__file__).parent / "kernels")]
"""


@pytest.fixture
def record(cli):
    def run(*before):
        outcome = cli(*before, "doctor", "--json")
        found = json.loads(outcome.out)
        assert found["can_run"] == (outcome.code == 0)
        return found

    return run


def problem(found, *words):
    (one,) = [p for p in found["problems"] if all(word in p["what"] for word in words)]
    return one


def test_a_healthy_installation(cli, record):
    found = record()
    assert found["can_run"]
    assert [problem for problem in found["problems"] if problem["blocking"]] == []
    assert found["versions"]["python"] == sys.version.partition(" ")[0]
    assert found["versions"]["onnxruntime"]
    targets = {row["name"]: row for row in found["targets"]}
    assert targets["cpu"]["state"] == "ready"
    assert targets["coreml"]["state"] == ("ready" if sys.platform == "darwin" else "not here")
    assert [row["name"] for row in found["targets"] if row["auto"]] in (["cpu"], ["cuda"])
    assert {row["name"] for row in found["plugins"]} >= {"builtins", "granite"}
    assert found["cache"]["damaged"] == []
    assert 1 <= found["machine"]["cores"] <= found["machine"]["cores_of_machine"]
    text = cli("doctor")
    assert text.code == 0
    headings = [line for line in text.out.splitlines() if not line.startswith(" ")]
    assert headings[:6] == [
        *("Versions", "Targets", "Op packages", "Plugins", "Cache", "Machine"),
    ]
    assert "cpu      ready" in text.out


def test_nothing_heavy_is_imported_for_a_look():
    program = """
import sys
from pipelines.common.cli import main
sys.argv = ["run_pipeline.py", "doctor"]
try:
    main()
except SystemExit as end:
    assert not end.code
print([n for n in ("torch", "onnx", "onnxscript", "onnx_ir", "transformers") if n in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_plugins_that_cannot_be_used_stop_nothing(cli, record, make_plugin):
    bad = make_plugin("bad", "1 / 0")
    found = record("--plugin-path", bad)
    assert found["can_run"]
    assert not problem(found, f"plugin 'bad' ({bad}) was skipped", "ZeroDivisionError")["blocking"]
    (row,) = [row for row in found["plugins"] if row["name"] == "bad"]
    assert row["problem"] == "ZeroDivisionError: division by zero"
    assert f"bad      not used [{bad}]" in cli("--plugin-path", bad, "doctor").out


def test_a_target_and_an_op_package_that_cannot_be_used(cli, record, make_plugin):
    plugin = make_plugin("plugin", PLUGIN)
    folder = plugin.parent / "kernels"
    folder.mkdir()
    (folder / "op_package.toml").write_text('library = "kernels"')
    found = record("--plugin-path", plugin)
    assert found["can_run"]
    assert problem(found, "target 'broken' cannot run", "ZeroDivisionError")
    wrong = problem(found, "op package 'kernels' is not used: its library not built")
    assert wrong["fix"] == "run-pipeline ops build kernels"
    text = cli("--plugin-path", plugin, "doctor").out
    assert "    to do: run-pipeline ops build kernels\n" in text


def test_a_slow_plugin(record, make_plugin):
    slow = make_plugin("slow", "import time; time.sleep(0.12)\n" + PLUGIN)
    fix = problem(record("--plugin-path", slow), "plugin 'slow'", "to import, at every start")[
        "fix"
    ]
    assert fix.endswith("or leave it out with --no-plugin")


@pytest.mark.parametrize(
    ("module", "version", "said", "blocking"),
    [
        ("onnxruntime", "1.20.0", "is installed, expected 1.31 to below 1.32", True),
        ("numpy", None, "numpy is not installed", True),
        ("torch", "1.0", "torch 1.0 is installed, expected 2.13 or newer", False),
    ],
)
def test_versions_that_will_not_do(cli, record, monkeypatch, module, version, said, blocking):
    known = dependencies.DEPENDENCIES[module]
    asked = dependencies._installed

    def forged(dependency):
        if dependency is not known:
            return asked(dependency)
        return {} if version is None else {known.names[0]: version}

    monkeypatch.setattr(dependencies, "_installed", forged)
    found = record()
    assert found["can_run"] != blocking
    wrong = next(p for p in found["problems"] if said in p["what"])
    assert wrong["blocking"] == blocking
    assert wrong["fix"].startswith("pip install ")
    text = cli("doctor")
    assert text.code == int(blocking)
    assert ("nothing runs: " in text.out) == blocking


def test_a_package_that_cannot_be_imported():
    """The rest is told all the same."""
    program = """
import sys
from pipelines.common.cli import main
sys.modules["onnxruntime"] = sys.modules["numpy"] = None
sys.argv = ["run_pipeline.py", "doctor"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Machine" in done.stdout
    assert "nothing runs: " in done.stdout


def test_damaged_entries_of_the_cache(cli, record):
    cache = Cache.default()
    sound, damaged, cut = (
        cache.put("graph", f"{number:032x}", lambda path: (path / "graph").write_bytes(b"123"))
        for number in range(3)
    )
    (damaged / "graph").write_bytes(b"124")
    (cut / "meta.json").write_text("{")
    found = record()
    assert found["can_run"]
    assert found["cache"]["damaged"] == [str(damaged), str(cut)]
    assert problem(found, f"{damaged} in the cache is damaged")["fix"]
    assert "2 damaged" in cli("doctor").out
    assert sound.exists() and damaged.exists()  # it only looks


def test_a_cache_that_cannot_be_used(cli, record, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUN_PIPELINE_CACHE", str(tmp_path / "file" / "cache"))
    assert problem(record(), "nothing can be kept: ", str(tmp_path / "file"))
    monkeypatch.setenv("RUN_PIPELINE_CACHE", "~no_such_user/cache")
    assert problem(record(), "nothing can be kept: RUN_PIPELINE_CACHE is")
    assert cli("doctor").code == 0


def test_an_instruction_set_that_is_none(record, monkeypatch):
    if not [row for row in record()["op_packages"] if row.get("instruction_set")]:
        pytest.skip("the native kernels are not built")
    monkeypatch.setenv("PIPELINE_NATIVE_ISA", "altivec")
    found = record()
    assert not found["can_run"]
    assert problem(found, "PIPELINE_NATIVE_ISA is altivec, ")["fix"] == "unset PIPELINE_NATIVE_ISA"


def test_little_memory(record, monkeypatch):
    monkeypatch.setattr(diagnosis.system, "available_memory", lambda: 100 << 20)
    assert problem(record(), "less than 512 MiB of memory")["fix"]
