"""What an installation downloads on each platform: every distribution, and the sum.

python -m benchmarks.download [REQUIREMENT] [--extra EXTRA] [--python 3.11]

Nothing is installed. `uv` (pip install uv) resolves for each platform as if nothing were there yet;
without a requirement it is this project, built from a checkout.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tomllib
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from benchmarks.report import print_table

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
MEGABYTE = 1e6

PLATFORMS: Final = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux arm64": "aarch64-manylinux_2_28",
    "macOS arm64": "aarch64-apple-darwin",
}
"""What `uv` calls them."""

_OLDEST_MACOS: Final = "14.0"
"""The first version that ONNX Runtime's wheels are for."""


def locked(source: Sequence[str], requirement: str, platform: str) -> list[dict[str, Any]]:
    """What would be installed on a platform, with every file that fits.

    Args:
        source: What is resolved, as arguments of ``uv pip compile``.
        requirement: What it reads from stdin where that names it.
        platform: As `uv` calls it.

    Raises:
        subprocess.CalledProcessError: There is no solution.
    """
    options = ("--quiet", "--no-header", "--format", "pylock.toml", "--python-platform", platform)
    done = subprocess.run(
        ["uv", "pip", "compile", *options, *source],
        check=True,
        input=requirement,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": _OLDEST_MACOS},
    )
    found: list[dict[str, Any]] = tomllib.loads(done.stdout)["packages"]
    return found


def sizes(requirement: str, platform: str, *options: str) -> dict[str, int]:
    """Bytes of what is downloaded, by name and version.

    Args:
        requirement: What is to be installed, a line each; this project if it is empty.
        platform: As `uv` calls it.
        options: More arguments of ``uv pip compile``.
    """
    source = ["-" if requirement else str(PROJECT), *options]
    found = locked(source, requirement, platform)
    return {f"{package['name']} {package['version']}": nbytes(package) for package in found}


def nbytes(package: Mapping[str, Any]) -> int:
    """The size of a package's wheel, the largest of those that fit, or else of its sources."""
    files = package.get("wheels") or [package["sdist"]]
    return max(file.get("size") or _measured(file) for file in files)


def _measured(file: Mapping[str, Any]) -> int:
    """The size of a file that an index does not tell."""
    parts = urlsplit(file.get("url") or Path(file["path"]).absolute().as_uri())
    if parts.scheme == "file":
        return Path(unquote(parts.path)).stat().st_size
    request = urllib.request.Request(parts.geturl(), method="HEAD")
    with urllib.request.urlopen(request) as response:
        return int(response.headers["Content-Length"])


def main() -> None:
    """Prints a line for each distribution, the largest first, and a column for each platform."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirement", nargs="?", default="")
    parser.add_argument("--extra", action="append", default=[], help="of this project")
    parser.add_argument("--python", default="3.11", help="the version of Python")
    given = parser.parse_args()
    options = [word for extra in given.extra for word in ("--extra", extra)]
    options += ["--python-version", given.python]
    found: dict[str, dict[str, int]] = {}
    for title, platform in PLATFORMS.items():
        for named, size in sizes(given.requirement, platform, *options).items():
            found.setdefault(named, {})[title] = size
    rows = sorted(found.items(), key=lambda row: -max(row[1].values()))
    every = {title: [row[title] for _, row in rows if title in row] for title in PLATFORMS}
    rows += [
        ("distributions", {title: len(column) for title, column in every.items()}),
        ("sum", {title: sum(column) for title, column in every.items()}),
    ]
    print_table(
        ("MB", *PLATFORMS),
        [(name, *(_cell(name, row.get(title)) for title in PLATFORMS)) for name, row in rows],
    )


def _cell(name: str, value: int | None) -> str:
    if value is None:
        return "-"
    return str(value) if name == "distributions" else f"{value / MEGABYTE:.1f}"


if __name__ == "__main__":
    main()
