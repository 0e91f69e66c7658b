"""Whatever a graph says of a node, a kernel answers with an error that names the operator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from broken_nodes import CASES, VALID


@pytest.fixture(scope="module")
def outcomes(native_library: Path) -> dict[str, str | None]:
    """What became of each node; the last is one in which the process has ended, if it has."""
    folder = Path(__file__).parents[1]  # of what tests share
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("broken_nodes.py"), str(native_library)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    result: dict[str, str | None] = {}
    for line in map(json.loads, done.stdout.splitlines()):
        if "begins" in line:
            result[line["begins"]] = f"the process ended with {done.returncode}: {done.stderr}"
        else:
            result[line["ends"]] = line["error"]
    return result


@pytest.mark.parametrize("kind", VALID)
def test_a_node_as_it_should_be(outcomes: dict[str, str | None], kind: str) -> None:
    assert outcomes[kind] is None


@pytest.mark.parametrize("kind", VALID)
def test_a_node_with_one_thing_wrong(outcomes: dict[str, str | None], kind: str) -> None:
    wrong = [name for name in CASES if name.startswith(f"{kind}: ")]
    assert len(wrong) > 30
    for name in wrong:
        error = outcomes.get(name, "the process ended before")
        assert error is not None, f"{name}: is computed"
        assert "the process ended" not in error, f"{name}: {error}"
        assert VALID[kind].operator in error, f"{name}: {error}"
