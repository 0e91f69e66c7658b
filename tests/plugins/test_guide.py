"""What the guide for authors says works as it stands, with what it names alone."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from families import FAMILIES

import pipelines.plugin
from pipelines.testing import Subject, check_twin

PLUGINS = Path(__file__).parents[2] / "plugins"
GUIDE = (PLUGINS / "README.md").read_text(encoding="utf-8")


def blocks(section: str) -> list[str]:
    """The Python blocks of a section of the guide."""
    text = GUIDE.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_family_of_the_guide(tmp_path: Path) -> None:
    network, registration = blocks("A family of decoders")
    plugin = tmp_path / "of_the_guide"
    plugin.mkdir()
    (plugin / "model.py").write_text(network)
    (plugin / "__init__.py").write_text(registration.replace('"granite",\n', '"guided",\n', 1))
    (family,) = (family for family in FAMILIES if family.pipeline == "granite")
    subject = family.named("guided", Subject.of("guided", plugin))
    check_twin(subject, family.twin(), allowed=1e-5)


def test_the_test_of_the_guide(tmp_path: Path) -> None:
    network, registration = blocks("A family of decoders")
    (test,) = blocks("Testing")
    plugin = tmp_path / "of_the_guide"
    plugin.mkdir()
    (plugin / "model.py").write_text(network)
    (plugin / "__init__.py").write_text(registration.replace('"granite",\n', '"guided",\n', 1))
    (plugin / "test_it.py").write_text(test.replace('Subject.of("granite"', 'Subject.of("guided"'))
    # These stand for all of the checks, which the families of the project are held to.
    some = "transformers or module or q4_0 or steps"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", plugin, "-k", some],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PLUGINS.parent)},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "failed" not in done.stdout


@pytest.mark.parametrize(
    "path", sorted(PLUGINS.rglob("*.py")), ids=lambda path: str(path.relative_to(PLUGINS))
)
def test_plugins_import_the_public_surface_and_nothing_else(path: Path) -> None:
    imported = [
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    ]
    surface = {"pipelines.testing"} if path.name.startswith("test_") else {"pipelines.plugin"}
    assert {name for name in imported if name.startswith("pipelines")} <= surface


def test_the_surface_has_what_it_says() -> None:
    for name in pipelines.plugin.__all__:
        assert getattr(pipelines.plugin, name) is not None
    with pytest.raises(AttributeError, match=r"has no nm; it has API_VERSION, .*neutral_operator"):
        _ = pipelines.plugin.nm
