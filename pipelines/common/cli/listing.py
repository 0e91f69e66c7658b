"""``list``: all that plugins have registered, and where each came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import typer

from pipelines.common.cli.context import registry_of
from pipelines.common.cli.options import AsJson
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.registry.entries import Entry
from pipelines.common.registry.registry import Registry

SLOW_IMPORT_S: Final = 0.1
"""Longer than a plugin's module should take to import: every start of the driver waits for it."""


def list_all(
    ctx: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="List the plugins too, and what importing each took.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List pipelines, targets, formats, tokenizers, op packages, and where each came from."""
    registry = registry_of(ctx)
    sections: dict[str, Mapping[str, Entry[Any]]] = {
        "pipelines": registry.pipelines,
        "tasks": registry.tasks,
        "targets": registry.targets,
        "weight_formats": registry.weight_formats,
        "tokenizers": registry.tokenizers,
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
                "state": entry.state() or entry.outdated(),
            }
            for name, entry in entries.items()
        ]
        for section, entries in sections.items()
    }
    for row in rows["op_packages"]:
        applies = registry.packages.applies_to(row["name"])
        row["pipelines"] = None if applies is None else list(applies)
    plugins = plugin_rows(registry)
    if as_json:
        notes = {"overrides": registry.overrides, "problems": registry.problems}
        print_json({**rows, "plugins": plugins, **notes})
        return
    lines = []
    width = max(len(row["name"]) for section in rows.values() for row in section)
    for section, entries_of in rows.items():
        lines += [section.replace("_", " ").capitalize()]
        for row in entries_of:
            state = f"; {row['state']}" if row["state"] else ""
            about = f"{row['summary']} [{row['provenance']}{_for(row)}{state}]"
            lines += [f"  {row['name']:<{width}}  {about}"]
    shown = [row for row in plugins if verbose or row["slow"]]
    if shown:
        lines += ["Plugins" if verbose else "Plugins that slow down every start"]
        width = max(len(row["name"]) for row in shown)
        lines += [f"  {row['name']:<{width}}  {_about_plugin(row)}" for row in shown]
    print_lines(*lines)


def plugin_rows(registry: Registry) -> list[dict[str, Any]]:
    """What there is to say of each plugin: JSON values."""
    return [
        {
            "name": plugin.name,
            "provenance": plugin.provenance,
            "import_ms": None if plugin.built_in else round(plugin.import_s * 1e3, 1),
            "slow": plugin.import_s > SLOW_IMPORT_S,
            "problem": plugin.problem,
        }
        for plugin in registry.plugins
    ] + [
        {
            "name": plugin.name,
            "provenance": plugin.provenance,
            "import_ms": None,
            "slow": False,
            "problem": "left out, as was asked for",
        }
        for plugin in registry.left_out
    ]


def _about_plugin(row: Mapping[str, Any]) -> str:
    def parts() -> Iterator[str]:
        if row["import_ms"] is not None:
            yield f"imported in {row['import_ms']:.0f} ms"
        if row["slow"]:
            yield "which is slow: import what is heavy inside of functions"
        if row["problem"]:
            yield f"not used: {row['problem']}"

    about = ", ".join(parts())
    return f"{about} [{row['provenance']}]" if about else f"[{row['provenance']}]"


def _for(row: Mapping[str, Any]) -> str:
    """Which models run with an op package that nobody names; empty for other records."""
    if "pipelines" not in row:
        return ""
    if row["pipelines"] is None:
        return "; for every pipeline"
    if row["pipelines"]:
        return f"; for {', '.join(row['pipelines'])}"
    return f"; for those who name it, with --custom-ops-path {row['name']}"
