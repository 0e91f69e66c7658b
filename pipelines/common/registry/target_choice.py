"""Finds out which targets can run here, and which one is meant."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipelines.common.errors import PluginError, TargetError, UsageError
from pipelines.common.program.target import Availability
from pipelines.common.progress import Progress
from pipelines.common.registry.entries import unknown_name
from pipelines.common.registry.registry import Registry

AUTO = "auto"
"""The target's name that stands for the best target that can run here."""


def choose(registry: Registry, requested: str, device: int, progress: Progress) -> str:
    """The target to run on.

    Args:
        registry: Has the targets.
        requested: A target's name, or ``auto``.
        device: Which of its devices is wanted.
        progress: Told when a target is passed over though its device is here.

    Raises:
        UsageError: No target has that name.
        TargetError: It cannot run here, or has no such device.
    """
    _check_name(registry, requested)
    if requested != AUTO:
        availability = registry.availability(requested)
        if not availability.here:
            raise TargetError(f"target '{requested}' cannot run here: {_why_not(availability)}")
        _check_device(requested, availability, device)
        return requested
    why = ""
    for name in _by_preference(registry):
        availability = registry.availability(name)
        if availability.here:
            _check_device(name, availability, device)
            return name
        if availability.device_found:
            progress.notice(f"target '{name}' is passed over: {_why_not(availability)}")
        why = f", not even '{name}': {_why_not(availability)}"
    raise TargetError(f"no target can run here{why}")


def choose_to_build(registry: Registry, requested: str, progress: Progress) -> str:
    """The target to make something for, which need not be here; ``auto`` is the best that is.

    Raises:
        UsageError: No target has that name.
        TargetError: None can run here, for ``auto``.
    """
    _check_name(registry, requested)
    return choose(registry, AUTO, 0, progress) if requested == AUTO else requested


def looked_at(registry: Registry) -> dict[str, Availability]:
    """Every target, with whether it can run here."""
    return {name: registry.availability(name) for name in registry.targets}


def preferred(registry: Registry, found: Mapping[str, Availability]) -> str | None:
    """What ``auto`` stands for; None if nothing can run."""
    return next((name for name in _by_preference(registry) if found[name].here), None)


def _by_preference(registry: Registry) -> list[str]:
    preferences = {name: entry.record.preference for name, entry in registry.targets.items()}
    wanted = [name for name, preference in preferences.items() if preference > 0]
    return sorted(wanted, key=preferences.__getitem__, reverse=True)


def _check_name(registry: Registry, requested: str) -> None:
    if requested in (AUTO, *registry.targets):
        return
    if problem := registry.disabled["target"].get(requested):
        raise PluginError(problem)
    error = unknown_name("target", requested, [AUTO, *registry.targets])
    # As of "gpu", which is the word for several, and the name of none.
    word = re.compile(rf"\b{re.escape(requested)}s?\b", re.IGNORECASE)
    summaries = {name: entry.record.summary for name, entry in registry.targets.items()}
    fitting = [
        f"{n} is {s.rstrip('.')}" for n, s in summaries.items() if requested and word.search(s)
    ]
    raise UsageError(f"{error}; {'; '.join(fitting)}") if fitting else error


def _why_not(availability: Availability) -> str:
    return "; ".join(filter(None, (availability.reason, availability.fix)))


def _check_device(name: str, availability: Availability, device: int) -> None:
    count = len(availability.devices)
    if not 0 <= device < count:
        devices = "device 0 only" if count == 1 else f"devices 0 to {count - 1}"
        raise TargetError(
            f"`device` {device}: target '{name}' has {devices}; 'run-pipeline targets' lists them"
        )
