"""Finds what a user wants checked: a pipeline, a target, or all that a plugin brings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.errors import UsageError
from pipelines.common.files import exists, is_file, resolved
from pipelines.common.pipeline_check.checks import pipeline_checks, target_checks
from pipelines.common.pipeline_check.outcome import Check
from pipelines.common.pipeline_check.subject import Subject
from pipelines.common.registry.entries import Entry, unknown_name
from pipelines.common.registry.plugins import Plugin
from pipelines.common.registry.registry import Registry

TARGETS_RUN = "llama3"
"""The pipeline that targets are checked with whose plugin brings none."""


def checks_of(
    what: str, registry: Registry, random: RandomWeights
) -> Iterator[tuple[str, list[Check]]]:
    """The checks of each pipeline and target that a user means, with its name.

    Args:
        what: Name of a pipeline, a target or a plugin, or the path of a plugin that is in the
            registry.
        registry: Where they are registered.
        random: The random weights to check with.

    Raises:
        UsageError: There is nothing of that name, or it brings neither pipelines nor targets.
    """
    pipelines, targets = _meant(what, registry)
    for name in pipelines:
        yield f"pipeline {name}", pipeline_checks(Subject(name, registry, random))
    decoders = (name for name in pipelines if registry.pipelines[name].record.architectures)
    run = Subject(next(decoders, TARGETS_RUN), registry, random)
    for name in targets:
        yield f"target {name}", target_checks(run, name)


def plugin_at(what: str, registry: Registry) -> Path | None:
    """The path of the plugin that a user means; None where it is a name.

    Args:
        what: What the user typed.
        registry: Has the names.

    Raises:
        UsageError: The path is that of something else. Of a folder of plugins nothing is run: who
            names one may not know all that is in it.
    """
    named = (registry.pipelines, registry.targets, registry.op_packages)
    if any(what in names for names in named) or not exists(path := Path(what)):
        return None
    if is_file(path / "__init__.py") or (is_file(path) and path.suffix == ".py"):
        return path
    raise UsageError(f"{what} is no plugin; expected a .py file, or a folder with an __init__.py")


def _meant(what: str, registry: Registry) -> tuple[list[str], list[str]]:
    """Names of pipelines and of targets."""
    if what in registry.pipelines:
        return [what], []
    if what in registry.targets:
        return [], [what]
    path = plugin_at(what, registry)

    def of(plugin: Plugin) -> bool:
        return plugin.name == what if path is None else plugin.provenance == str(resolved(path))

    brought = _brought(registry.pipelines, of), _brought(registry.targets, of)
    if any(brought):
        return brought
    packages = [what] if what in registry.op_packages else _brought(registry.op_packages, of)
    if packages:
        raise UsageError(
            f"{what} is about op packages, which are checked by: run-pipeline ops check"
            f" {packages[0]}"
        )
    if path:
        raise UsageError(f"{what} brings neither pipelines nor targets; there is nothing to check")
    plugins = {entry.plugin.name for entry in registry.pipelines.values()}
    names = {*registry.pipelines, *registry.targets, *plugins}
    raise unknown_name("pipeline, target or plugin", what, names)


def _brought(entries: Mapping[str, Entry[Any]], of: Callable[[Plugin], bool]) -> list[str]:
    return [name for name, entry in entries.items() if of(entry.plugin)]
