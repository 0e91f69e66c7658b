"""Packages that are missing, or of other versions: one line that says what to install."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from programs import ROOT

from pipelines.common import dependencies
from pipelines.common.dependencies import DEPENDENCIES, Dependency
from pipelines.common.errors import DependencyError
from pipelines.llama3.pipeline import BUNDLED

pytestmark = pytest.mark.usefixtures("own_cache")

PROGRAM = Path(__file__).with_name("other_packages_program.py")

RUN = ["--prompt", "x", "--max-new-tokens", "1", "--quiet"]
COMMANDS = {
    "help": ["--help"],
    "list": ["list"],
    "targets": ["targets"],
    "cache": ["cache", "list"],
    "echo": ["echo", *RUN],
    "chat": ["echo", "--chat", "--chat-template", "chatml", *RUN],
    "run": ["llama3", *RUN],
    "run on torch": ["llama3", *RUN, "--target", "torch"],
    "run on cpu": ["llama3", *RUN, "--target", "cpu"],
    "inspect": ["inspect", str(BUNDLED)],
    "tokenize": ["tokenize", "--text", "x"],
    "graph": ["graph", "llama3", "--quiet", "--target", "cpu"],
    "export": ["export", "llama3", "OUT", "--quiet", "--target", "cpu"],
    "warm-cache": ["warm-cache", "llama3", "--quiet", "--target", "cpu"],
    "ops list": ["ops", "list"],
    "ops check": ["ops", "check", "native"],
}


def outcomes(tmp_path, absent, versions, failing):
    """What becomes of commands that look at little, and of those that are to fail.

    That is their exit code, stderr and stdout, by name; none ends with a traceback.
    """
    commands = {name: args for name, args in COMMANDS.items() if name in LIGHT | failing}
    if "ops check" not in failing and "run on torch" not in failing:
        absent = [*absent, "torch"]  # nobody asks for it, and to look whether it works takes long
    arguments = [absent, versions, list(commands.values())]
    done = subprocess.run(
        [sys.executable, PROGRAM, *map(json.dumps, arguments)],
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    told = {}
    for name, (code, out, err) in zip(commands, json.loads(done.stdout), strict=True):
        assert code in (0, 1), (name, code, err)
        if code == 1:
            assert err.count("\n") == 1, (name, err)
            assert err.startswith("run_pipeline: error: "), (name, err)
        told[name] = (code, err, out)
    return told


LIGHT = {"help", "list", "targets", "cache", "inspect", "ops list"}
"""Look at little."""

NEEDED = {
    "onnxruntime": {"run on cpu", "ops check"},
    "torch": {"run on torch", "ops check"},
    "onnx_ir": {"run", "graph"},
    "onnxscript": {"run", "graph"},
    "onnx": {"run", "graph"},
    "tokenizers": {"echo", "run", "tokenize", "graph", "export", "warm-cache"},
    "numpy": {"echo", "run", "tokenize", "graph", "export", "warm-cache"},
    "ml_dtypes": set(),
    "gguf": set(),
    "jinja2": {"chat"},
    "prompt_toolkit": set(),
    "typer": set(COMMANDS),
    "pluggy": set(COMMANDS),
}


@pytest.mark.parametrize("module", NEEDED)
def test_a_package_that_is_missing(tmp_path, module):
    dependency = DEPENDENCIES[module]
    told = outcomes(tmp_path, [module], dict.fromkeys(dependency.names), NEEDED[module])
    for name in {"help", "list", "cache", "targets"} - NEEDED[module]:
        if (module, name) != ("numpy", "targets"):
            assert told[name][0] == 0, told[name]
    for name in NEEDED[module]:
        code, err, _ = told[name]
        assert code == 1, (name, err)
        assert dependency.install in err, (name, err)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"onnxruntime-gpu": "1.30.1"}, "onnxruntime-gpu 1.30.1 is installed, expected 1.31"),
        (
            {"onnxruntime": "1.32.0"},
            "onnxruntime 1.32.0 is installed, expected 1.31 to below 1.32;"
            " pip install 'onnxruntime>=1.31,<1.32'",
        ),
        (
            {"onnxruntime-gpu": "1.31.1", "onnxruntime": "1.30.0"},
            "onnxruntime-gpu 1.31.1 and onnxruntime 1.30.0 are both installed, into one folder;"
            " pip uninstall --yes onnxruntime-gpu onnxruntime && pip install ",
        ),
    ],
)
def test_another_runtime(tmp_path, versions, expected):
    neither = {"onnxruntime-gpu": None, "onnxruntime": None}
    told = outcomes(tmp_path, [], neither | versions, {"run on cpu"})
    assert expected.partition(";")[0] in told["targets"][2]
    code, err, _ = told["run on cpu"]
    assert code == 1, err
    assert expected in err
    assert "pip install" in err


@pytest.mark.parametrize(
    ("module", "version"), [("numpy", "1.26.4"), ("tokenizers", "0.21.4"), ("torch", "2.12.0+cpu")]
)
def test_another_version(tmp_path, module, version):
    told = outcomes(tmp_path, [], {module: version}, NEEDED[module])
    for name in NEEDED[module]:
        code, err, _ = told[name]
        assert code == 1, (name, err)
        assert f"{module} {version} is installed, expected" in err
        assert DEPENDENCIES[module].install in err


@pytest.mark.parametrize(
    ("version", "right"),
    [
        ("1.31", True),
        ("1.31.9", True),
        ("1.31.0rc1", True),
        ("1.30.9", False),
        ("1.32", False),
        ("1.32.0.dev1", False),
        ("2", False),
        ("1", False),
        ("nonsense", False),
    ],
)
def test_versions_that_will_do(version, right):
    assert Dependency(("x",), "1.31", "1.32").takes(version) == right


@pytest.mark.parametrize(
    ("installed", "fix"),
    [
        ([], "pip install 'half-here>=1'"),
        (["half-here"], "pip uninstall --yes half-here && pip install 'half-here>=1'"),
    ],
)
def test_a_folder_that_an_uninstallation_left(tmp_path, monkeypatch, installed, fix):
    (tmp_path / "half_here" / "capi").mkdir(parents=True)
    for name in installed:
        information = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        dependencies, "DEPENDENCIES", {"half_here": Dependency(("half-here",), "1")}
    )
    with pytest.raises(DependencyError) as error:
        dependencies.check("half_here")
    folder = tmp_path / "half_here"
    assert f"of half_here there is no more than a folder ({folder})" in str(error.value)
    assert str(error.value).endswith(f"; {fix}")


def test_what_is_asked_for_is_what_the_project_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = {}
    for line in [*project["dependencies"], *project["optional-dependencies"]["torch"]]:
        name, bound, _ = re.match(r"([\w-]+)([^;]*)(.*)", line).groups()
        bounds[name] = bound.strip()
    for dependency in DEPENDENCIES.values():
        for name in dependency.names:
            upper = f",<{dependency.before}" if dependency.before else ""
            assert bounds[name] == f">={dependency.first}{upper}"
