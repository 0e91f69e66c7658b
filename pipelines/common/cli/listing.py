"""``list``: pipelines, targets, weight formats and op packages, and where each came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from pipelines.common.cli.context import registry_of
from pipelines.common.cli.options import AsJson
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.registry.entries import Entry


def list_all(
    ctx: typer.Context,
    as_json: AsJson = False,
) -> None:
    """List pipelines, targets, weight formats and op packages, and where each came from."""
    registry = registry_of(ctx)
    sections: dict[str, Mapping[str, Entry[Any]]] = {
        "pipelines": registry.pipelines,
        "targets": registry.targets,
        "weight_formats": registry.weight_formats,
        "op_packages": registry.op_packages,
    }
    rows: dict[str, list[dict[str, Any]]] = {
        section: [
            {
                "name": name,
                "summary": entry.record.summary,
                "plugin": entry.plugin.name,
                "provenance": entry.plugin.provenance,
                "missing": list(entry.missing_modules()),
                "state": entry.state(),
            }
            for name, entry in entries.items()
        ]
        for section, entries in sections.items()
    }
    if as_json:
        print_json({**rows, "problems": registry.problems})
        return
    lines = []
    width = max(len(row["name"]) for section in rows.values() for row in section)
    for section, entries_of in rows.items():
        lines += [section.replace("_", " ").capitalize()]
        for row in entries_of:
            state = f"; {row['state']}" if row["state"] else ""
            about = f"{row['summary']} [{row['provenance']}{state}]"
            lines += [f"  {row['name']:<{width}}  {about}"]
    print_lines(*lines)
