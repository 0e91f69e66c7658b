"""stdout stays clean wherever code of strangers is imported or asked for something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

# Prints in the ways in which code can, also from C, with and without a buffer of its own.
TELL = """
import ctypes, os, sys
def tell(where):
    print("print", where)
    sys.__stdout__.write(f"real {where}\\n")
    os.write(1, f"write {where}\\n".encode())
    libc = ctypes.CDLL(None)
    libc.write(1, f"c-write {where}\\n".encode(), len(f"c-write {where}\\n"))
    libc.printf(f"printf {where}\\n".encode())
"""
WAYS = ("print", "real", "write", "c-write", "printf")

PLUGIN = """
from pathlib import Path
import loud
from pipelines.plugin import (
    OpPackageRecord, PipelineRecord, TargetRecord, WeightFormatRecord, hookimpl
)
loud.tell("import")
HERE = Path(__file__).parent

@hookimpl
def register_pipelines():
    loud.tell("hook")
    return [PipelineRecord("strange", "S.", load=f"{__name__}.lazy:pipeline")]

@hookimpl
def register_targets():
    return [
        TargetRecord("strange", "S.", requires=(), load=f"{__name__}.lazy:target", preference=99)
    ]

@hookimpl
def register_weight_formats():
    return [WeightFormatRecord("strange", "S.", (".strange",), open=f"{__name__}.lazy:opened")]

@hookimpl
def register_op_packages():
    return [OpPackageRecord("strange", "S.", HERE / "strange.py")]
"""

LAZY = """
import loud
loud.tell("lazy")

def pipeline():
    from pipelines.echo.pipeline import EchoPipeline
    loud.tell("load")
    return EchoPipeline()

class Target:
    def availability(self):
        from pipelines.common.program.target import Availability
        loud.tell("availability")
        return Availability(reason="it is not here")
    def versions(self):
        loud.tell("versions")
        return {}

def target():
    return Target()

def opened(path, opening):
    from pipelines.plugin import ModelFileError
    loud.tell("open")
    raise ModelFileError(f"{path} is strange")
"""

PACKAGE = """
import loud
from pipelines.plugin import OpPackage, Rule, patterns
loud.tell("package")

def pattern(op, x):
    loud.tell("pattern")
    return op.SiLU(x)

PACKAGE = OpPackage("S.", {"cpu": [Rule("S", pattern, lambda op, x: op.Mul(x, op.Sigmoid(x)))]})
"""

# A command, and where strangers' code runs for it.
COMMANDS = {
    "a run": (["strange", "--prompt", "hi"], ["lazy", "load", "availability"]),
    "a run as a record": (["strange", "--prompt", "hi", "--json"], ["lazy", "load"]),
    "rows": (["strange", "--prompt", "a", "--prompt", "b"], ["lazy", "load"]),
    "list": (["list"], []),
    "list as a record": (["list", "--json", "--verbose"], []),
    "help": (["--help"], []),
    "targets": (["targets"], ["lazy", "availability", "versions"]),
    "doctor": (["doctor", "--json"], ["lazy", "availability"]),
    "ops list": (["ops", "list", "strange"], ["package", "pattern"]),
    "a format": (["inspect", "model.strange"], ["lazy", "open"]),
    "a model": (
        ["llama3", "--prompt", "x", "--max-new-tokens", "2", "--custom-ops-path", "strange"],
        ["package", "pattern"],
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_stdout_has_what_was_asked_for(process, tmp_path: Path, monkeypatch, name: str) -> None:
    folder = tmp_path / "strange"
    for path, source in {
        "library/loud.py": TELL,
        "strange/__init__.py": PLUGIN,
        "strange/lazy.py": LAZY,
        "strange/strange.py": PACKAGE,
        "model.strange": "",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "library"))
    args, where = COMMANDS[name]
    loud = process("--plugin-path", folder, *args)
    for place in ("import", "hook", *where):
        for way in WAYS:
            assert f"{way} {place}\n" in loud.err
            assert f"{way} {place}" not in loud.out
    (tmp_path / "library" / "loud.py").write_text("def tell(where): pass")
    silent = process("--plugin-path", folder, *args)
    assert loud.code == silent.code
    if "--json" in args:
        assert json.loads(loud.out).keys() == json.loads(silent.out).keys()
    elif name == "rows":
        assert [json.loads(line)["text"] for line in loud.out.splitlines()] == ["a", "b"]
    elif name != "targets":  # which has free memory
        assert loud.out == silent.out


def test_an_entry_point_and_a_name_that_is_completed(process, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(TELL)
    (tmp_path / "forged.py").write_text(
        "import loud\nloud.tell('import')\nfrom pipelines.plugin import hookimpl\n"
        "@hookimpl\ndef register_pipelines(): return []"
    )
    information = tmp_path / "forged-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: forged\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[run_pipeline.plugins]\nforged = forged\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    done = process("echo", "--prompt", "hi", **environment)
    assert done.out == "hi"
    environment |= {"_RUN_PIPELINE.PY_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    completed = process(COMP_WORDS="run_pipeline.py ech", **environment)
    assert completed.out.split() == ["echo"]
    for outcome in (done, completed):
        assert all(f"{way} import\n" in outcome.err for way in WAYS)
