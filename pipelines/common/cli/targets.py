"""``targets``: what models can run on here, and what would be missing for the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from pipelines.common.cli.context import registry_of
from pipelines.common.cli.formatting import human_size
from pipelines.common.cli.options import AsJson
from pipelines.common.cli.streams import print_json, print_lines

if TYPE_CHECKING:
    from pipelines.common.program.target import Device


def list_targets(
    ctx: typer.Context,
    as_json: AsJson = False,
) -> None:
    """Show what models can run on here.

    Each target is listed with its versions and devices; those that cannot run with the reason, and
    with what would help.
    """
    from pipelines.common.registry.target_choice import looked_at, preferred

    registry = registry_of(ctx)
    found = looked_at(registry)
    chosen = preferred(registry, found)
    if as_json:
        record: dict[str, Any] = {
            "auto": chosen,
            "targets": [
                {
                    "name": name,
                    "summary": registry.targets[name].record.summary,
                    "available": availability.here,
                    "versions": _versions(ctx, name),
                    **asdict(availability),
                }
                for name, availability in found.items()
            ],
        }
        print_json(record)
        return
    lines = []
    width = max(map(len, found))
    for name, availability in found.items():
        state = "ready" if availability.here else f"not here: {availability.reason}"
        parts = [state, *(f"{p} {v}" for p, v in _versions(ctx, name).items())]
        auto = " (what --target auto takes)" if name == chosen else ""
        lines += [f"{name:<{width}}  {', '.join(parts)}{auto}"]
        for line in _details(availability.devices, availability.fix):
            lines += [f"{'':<{width}}  {line}"]
    print_lines(*lines)


def _details(devices: tuple[Device, ...], fix: str) -> Iterator[str]:
    for number, device in enumerate(devices):
        sizes = [] if device.memory is None else [f"{human_size(device.memory)} of memory"]
        sizes += [] if device.free is None else [f"{human_size(device.free)} free"]
        yield ", ".join([f"device {number}: {device.name}", *sizes])
    if fix:
        yield f"to change that: {fix}"


def _versions(ctx: typer.Context, name: str) -> dict[str, str]:
    """Versions of what a target runs on; none if that is not installed."""
    return registry_of(ctx).versions(name)
