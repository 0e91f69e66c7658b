"""The sizes of what an installation downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.download import nbytes


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ({"wheels": [{"size": 3}, {"size": 5}], "sdist": {"size": 9}}, 5),
        ({"sdist": {"size": 9}}, 9),
    ],
)
def test_what_a_lock_file_says(package: dict[str, Any], expected: int) -> None:
    assert nbytes(package) == expected


def test_a_file_on_the_disk_is_measured(tmp_path: Path) -> None:
    wheel = tmp_path / "a wheel.whl"
    wheel.write_bytes(b"1234")
    assert nbytes({"wheels": [{"path": str(wheel)}]}) == 4
    assert nbytes({"wheels": [{"url": wheel.as_uri()}]}) == 4
