"""What can be said of an installation and of the machine, without running a model."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pipelines
from pipelines.common import dependencies, system
from pipelines.common.cache import Cache
from pipelines.common.cli.listing import plugin_rows
from pipelines.common.errors import OpPackageError, PipelineError, one_line
from pipelines.common.op_packages import NATIVE
from pipelines.common.registry.registry import Registry

_SLOW_TO_IMPORT: Final = "torch"
"""What is not imported for a look; of targets that require it only the versions are looked at."""

_OPTIONAL: Final = ("torch",)
_LEAST_MEMORY: Final = 512 << 20


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        what: What it is.
        fix: What to do about it; empty where `what` says so.
        blocking: Whether no model can be run.
    """

    what: str
    fix: str = ""
    blocking: bool = False


def versions() -> tuple[dict[str, str | None], list[Finding]]:
    """Versions of Python, the driver and the packages at work."""
    found = {"python": platform.python_version(), "driver": pipelines.__version__}
    installed = dependencies.installed()
    findings = []
    for module, version in installed.items():
        problem = dependencies.problem(module)
        if version is None and module not in _OPTIONAL:
            problem = dependencies.missing([module])
        if problem:
            findings.append(Finding(problem.reason, problem.fix, module not in _OPTIONAL))
    return {**found, **installed}, findings


def targets(registry: Registry) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Which targets can run, as far as a quick look tells."""
    rows: list[dict[str, Any]] = []
    findings = []
    for name, entry in registry.targets.items():
        row: dict[str, Any] = {"name": name, "state": "ready", "reason": "", "fix": ""}
        rows.append(row)
        if _SLOW_TO_IMPORT in entry.record.requires:
            wrong = entry.wrong_modules()
            row["state"] = "not here" if wrong else "installed"
            row |= {} if wrong is None else {"reason": wrong.reason, "fix": wrong.fix}
            continue
        found = registry.availability(name)
        row |= {"reason": found.reason, "fix": found.fix}
        if not found.here:
            row["state"] = "not here"
            if found.device_found:
                findings.append(Finding(f"target '{name}' cannot run: {found.reason}", found.fix))
    taken = _auto(registry, {row["name"]: row["state"] for row in rows})
    for row in rows:
        row["auto"] = row["name"] == taken
    if taken is None:
        reasons = "; ".join(f"{row['name']}: {row['reason']}" for row in rows if row["reason"])
        fix = next((str(row["fix"]) for row in rows if row["fix"]), "")
        findings.append(Finding(f"no target can run here; {reasons}", fix, blocking=True))
    return rows, findings


def _auto(registry: Registry, states: dict[str, str]) -> str | None:
    """What ``auto`` stands for."""
    preferences = {name: entry.record.preference for name, entry in registry.targets.items()}
    can = [name for name, state in states.items() if state == "ready" and preferences[name] > 0]
    return max(can, key=preferences.__getitem__, default=None)


def op_packages(registry: Registry) -> tuple[list[dict[str, Any]], list[Finding]]:
    """The registered op packages, and whether they can be used."""
    rows: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for name, entry in registry.op_packages.items():
        state, old = entry.state(), entry.outdated()
        row: dict[str, Any] = {"name": name, "provenance": entry.plugin.provenance}
        row["state"] = state or old
        build = f"run-pipeline ops build {name}"
        if state == "library not built":
            findings.append(Finding(f"op package '{name}' is not used: its {state}", build))
        elif state:
            findings.append(Finding(f"op package '{name}' is not used: {state}"))
        elif old:
            findings.append(Finding(f"op package '{name}': its {old}", build))
        if name == NATIVE and entry.plugin.built_in and not state:
            row["instruction_set"], wrong = _instruction_set(registry)
            findings += wrong
        rows.append(row)
    return rows, findings


def _instruction_set(registry: Registry) -> tuple[str | None, list[Finding]]:
    """What the project's own kernels compute with."""
    from pipelines.common.op_packages.instruction_set import VARIABLE, choice
    from pipelines.common.op_packages.manifest import read_manifest

    try:
        library = read_manifest(registry.op_packages[NATIVE].record.path).find_library()
        assert library is not None
        taken = choice(library)
    except (OSError, OpPackageError) as error:
        return None, [Finding(f"the native kernels cannot be read: {error}")]
    if taken.problem:
        return None, [Finding(taken.problem, f"unset {VARIABLE}", blocking=True)]
    if taken.name == "portable" and len(taken.built) > 1:
        features = "the processor has none that the other kernels need"
        return taken.name, [Finding(f"the native kernels compute without vectors: {features}")]
    return taken.name, []


def plugins(registry: Registry) -> tuple[list[dict[str, Any]], list[Finding]]:
    """All plugins, and what keeps some of them, or of their records, from being used."""
    rows = plugin_rows(registry)
    findings = [Finding(problem) for problem in registry.problems]
    findings += [
        Finding(
            f"plugin '{row['name']}' ({row['provenance']}) takes {row['import_ms']:.0f} ms to"
            " import, at every start",
            "import what is heavy inside of functions, or leave it out with --no-plugin",
        )
        for row in rows
        if row["slow"]
    ]
    return rows, findings


def cache() -> tuple[dict[str, Any], list[Finding]]:
    """Where the cache is, and what it holds."""
    try:
        found = Cache.default()
        entries, damaged = found.entries(), found.damaged()
    except PipelineError as error:
        return {"path": None, "problem": str(error)}, [Finding(f"nothing can be kept: {error}")]
    row = {
        "path": str(found.root),
        "entries": len(entries),
        "bytes": sum(entry.size_bytes for entry in entries),
        "limit_bytes": found.limit_bytes,
        "damaged": list(map(str, damaged)),
    }
    findings = [
        Finding(f"{path} in the cache is damaged", "it is made again when it is needed")
        for path in damaged
    ]
    return row, findings


def machine() -> tuple[dict[str, Any], list[Finding]]:
    """Memory and cores, as far as they are granted to this process."""
    row: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()} on {platform.machine()}",
        "processor": system.processor(),
        "cores": system.cores(),
        "cores_of_machine": system.machine_cores(),
        "memory_available": system.available_memory(),
        "memory_total": system.total_memory(),
    }
    if row["memory_available"] >= _LEAST_MEMORY:
        return row, []
    fix = "end other programs, or raise the limit of the container"
    return row, [Finding("less than 512 MiB of memory is available", fix)]


def diagnosed(registry: Registry) -> Iterator[tuple[str, Any, list[Finding]]]:
    """Each part with its name, what it is like, and what is wrong.

    What cannot be looked at, as for want of a package, is None.
    """
    parts: dict[str, Callable[[], tuple[Any, list[Finding]]]] = {
        "versions": versions,
        "targets": lambda: targets(registry),
        "op_packages": lambda: op_packages(registry),
        "plugins": lambda: plugins(registry),
        "cache": cache,
        "machine": machine,
    }
    for name, look in parts.items():
        try:
            part, findings = look()
        except (ImportError, PipelineError) as error:
            part, findings = None, [Finding(f"{name}: {one_line(error)}", blocking=True)]
        yield name, part, findings
