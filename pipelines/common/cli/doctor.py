"""``doctor``: what is here, what is wrong with it, and what to do about that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import typer

from pipelines.common.cli.context import registry_of
from pipelines.common.cli.formatting import human_size
from pipelines.common.cli.options import AsJson
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.cli.wording import worded


def doctor(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Look for what is wrong: versions, targets, op packages, plugins, cache.

    Imports no PyTorch and runs no model. The exit code is 1 if nothing can be run.
    """
    from pipelines.common.cli.diagnosis import Finding, diagnosed

    parts: dict[str, Any] = {}
    findings: list[Finding] = []
    for name, part, wrong in diagnosed(registry_of(ctx)):
        parts[name] = part
        findings += (dataclasses.replace(f, what=worded(f.what), fix=worded(f.fix)) for f in wrong)
    can_run = not any(finding.blocking for finding in findings)
    if as_json:
        problems = [dataclasses.asdict(finding) for finding in findings]
        print_json({"can_run": can_run, **parts, "problems": problems})
    else:
        lines: list[str] = []
        for name, part in parts.items():
            shown = ["cannot be told"] if part is None else _SHOWN[name](part)
            lines += [name.replace("_", " ").capitalize(), *(f"  {line}" for line in shown)]
        lines += ["Problems" if findings else "No problems"]
        for finding in findings:
            lines += [f"  {'nothing runs: ' if finding.blocking else ''}{finding.what}"]
            lines += [f"    to do: {finding.fix}"] if finding.fix else []
        print_lines(*lines)
    if not can_run:
        raise typer.Exit(1)


def _versions(found: Mapping[str, str | None]) -> Iterator[str]:
    yield ", ".join(f"{name} {version or '(not installed)'}" for name, version in found.items())


def _targets(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        reason = f": {row['reason']}" if row["reason"] else ""
        auto = " (what --target auto takes)" if row["auto"] else ""
        yield f"{row['name']:<8} {row['state']}{reason}{auto}"
        if row["fix"]:
            yield f"{'':<8} to change that: {row['fix']}"


def _op_packages(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        isa = f", computes with {row['instruction_set']}" if row.get("instruction_set") else ""
        yield f"{row['name']:<8} {row['state'] or 'ready'}{isa} [{row['provenance']}]"


def _plugins(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        time = "" if row["import_ms"] is None else f" in {row['import_ms']:.0f} ms"
        state = "not used" if row["problem"] else f"imported{time}"
        yield f"{row['name']:<8} {state} [{row['provenance']}]"


def _cache(found: Mapping[str, Any]) -> Iterator[str]:
    if found["path"] is None:
        yield found["problem"]
        return
    sizes = f"{human_size(found['bytes'])} of at most {human_size(found['limit_bytes'])}"
    yield f"{found['path']}: {found['entries']} entries, {sizes}, {len(found['damaged'])} damaged"


def _machine(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['processor']}, {found['system']}"
    memory = human_size(found["memory_available"]), human_size(found["memory_total"])
    yield f"{memory[0]} of {memory[1]} of memory available"
    yield f"{found['cores']} of {found['cores_of_machine']} cores granted"


_SHOWN: Final[Mapping[str, Callable[[Any], Iterator[str]]]] = {
    "versions": _versions,
    "targets": _targets,
    "op_packages": _op_packages,
    "plugins": _plugins,
    "cache": _cache,
    "machine": _machine,
}
"""How each part is told to people."""
