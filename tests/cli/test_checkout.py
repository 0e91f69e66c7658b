"""``python run_pipeline.py`` runs the checkout that it stands in, whatever else is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ROOT, SCRIPT

import pipelines
from pipelines.common import shipped

# How an editable installation of another checkout finds it, before all others.
FINDER = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] == "pipelines":
            return super().find_spec(name, [{other!r}] if path is None else path, target)

sys.meta_path.insert(0, Finder)
"""


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another version of the driver, and a folder from which Python is told of it."""
    common = tmp_path / "other" / "pipelines" / "common"
    common.mkdir(parents=True)
    (common.parent / "__init__.py").write_text("raise AssertionError('another driver')")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        FINDER.format(other=str(tmp_path / "other"))
    )
    return tmp_path


@pytest.mark.parametrize(
    ("options", "where", "way"),
    [  # all pairs of two of them
        ([], "other", "its path"),
        ([], "site", "a link"),
        ([], "site", "a relative path"),
        (["-P"], "site", "its path"),
        (["-P"], "other", "a link"),
        (["-P"], "other", "a relative path"),
        (["-s"], "other", "its path"),
        (["-s"], "site", "a link"),
        (["-s"], "other", "a relative path"),
    ],
)
def test_the_checkout_runs(other: Path, options: list[str], where: str, way: str) -> None:
    script: Path = SCRIPT
    if way == "a link":
        script = other / "link.py"
        script.symlink_to(SCRIPT)
    if way == "a relative path":
        script = Path(os.path.relpath(SCRIPT, other))
    done = subprocess.run(
        [sys.executable, *options, script, "echo", "--prompt", "hi", "--quiet"],
        env={**os.environ, "PYTHONPATH": str(other / where)},
        cwd=other,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "hi", "")


@pytest.mark.parametrize("program", [[SCRIPT], ["-m", "pipelines"]])
def test_a_strangers_folders_are_left_alone(tmp_path: Path, program: list[str | Path]) -> None:
    """They are called like those of the project, and in the way where Python looks first."""
    # What `-m` names is looked for in the working directory before all else.
    for name in ("custom_ops", "plugins", *(["pipelines"] if program == [SCRIPT] else [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('a stranger')")
    done = subprocess.run(
        [sys.executable, *program, "echo", "--prompt", "hi", "--quiet"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "hi", "")


def test_it_is_called_as_it_was_started(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: python -m pipelines " in done.stdout


def test_modules_of_others_are_left_alone(other: Path) -> None:
    assert Path(pipelines.__file__).parents[1] == ROOT
    (other / "pipelines_of_mine.py").write_text("A = 1")
    plugin = other / "plugin.py"
    plugin.write_text(
        "import pipelines_of_mine\nfrom pipelines.plugin import hookimpl\n"
        "@hookimpl\ndef register_targets(): return []"
    )
    done = subprocess.run(
        [sys.executable, SCRIPT, "--strict-plugins", "--plugin-path", plugin, "list"],
        env={**os.environ, "PYTHONPATH": str(other)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("file://{root}", True),
        ("file:///somewhere/else", False),
        ("https://example.org/driver.whl", False),
        (None, False),
    ],
)
def test_kernels_are_those_of_this_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str | None, found: bool
) -> None:
    information = tmp_path / "pipeline_driver-9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: pipeline-driver\nVersion: 9\n")
    if url is not None:
        content = json.dumps({"url": url.format(root=ROOT), "dir_info": {"editable": True}})
        (information / "direct_url.json").write_text(content)
    library = tmp_path / "pipeline_driver_compiled" / "native" / "libx.so"
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    told = shipped.compiled(ROOT / "custom_ops" / "native", "libx.so")
    assert told == (library if found else None)
