"""What an installation downloads: every distribution that pip would take, and the sum.

python -m benchmarks.download [REQUIREMENT]

Nothing is installed; pip resolves for this platform, as if nothing were there yet. Without a
requirement it is this project, without extras.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from benchmarks.report import print_table

PROJECT = Path(__file__).parent.parent
MEGABYTE = 1e6


def resolved(requirement: str) -> list[dict[str, Any]]:
    """What pip would install, as its report has it.

    Raises:
        subprocess.CalledProcessError: It finds no solution.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    done = subprocess.run(
        [*command, "--report", "-", requirement], check=True, stdout=subprocess.PIPE
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)["install"]
    return found


def nbytes(url: str) -> int:
    """The size of what a URL names; a folder, which is built here, has none."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        return path.stat().st_size if path.is_file() else 0
    request = urllib.request.Request(url, method="HEAD")
    with urllib.request.urlopen(request) as response:
        return int(response.headers["Content-Length"])


def main() -> None:
    """Prints a line for each distribution, the largest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirement", nargs="?", default=str(PROJECT))
    sizes = {
        f"{item['metadata']['name']} {item['metadata']['version']}": nbytes(
            item["download_info"]["url"]
        )
        for item in resolved(parser.parse_args().requirement)
    }
    rows = sorted(sizes.items(), key=lambda item: -item[1])
    rows.append((f"{len(rows)} distributions", sum(sizes.values())))
    print_table(("distribution", "MB"), [(name, f"{size / MEGABYTE:.1f}") for name, size in rows])


if __name__ == "__main__":
    main()
