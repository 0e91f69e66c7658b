"""``cache``: what is kept between runs."""

from __future__ import annotations

import dataclasses
import time

import typer

from pipelines.common.cache import Cache
from pipelines.common.cli.command import Command
from pipelines.common.cli.formatting import human_size
from pipelines.common.cli.options import AsJson
from pipelines.common.cli.streams import print_json, print_lines

app = typer.Typer(help="List or clear what is kept between runs.", no_args_is_help=True)


@app.command("list", cls=Command)
def list_entries(
    as_json: AsJson = False,
) -> None:
    """List what the cache holds, the most recently used first."""
    cache = Cache.default()
    entries = cache.entries()
    if as_json:
        record = {
            "path": str(cache.root),
            "limit_bytes": cache.limit_bytes,
            "entries": [{**dataclasses.asdict(e), "path": str(e.path)} for e in entries],
        }
        print_json(record)
        return
    lines = []
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used))
        size = human_size(entry.size_bytes)
        lines += [f"{entry.kind:<10} {size:>9}  {used}  {entry.key[:12]}  {entry.description}"]
    total = human_size(sum(entry.size_bytes for entry in entries))
    limit = human_size(cache.limit_bytes)
    print_lines(*lines, f"{len(entries)} entries, {total} of at most {limit}, in {cache.root}")


@app.command("clear", cls=Command)
def clear() -> None:
    """Delete everything in the cache; it is made again when needed."""
    cache = Cache.default()
    print_lines(f"freed {human_size(cache.clear())} in {cache.root}")
