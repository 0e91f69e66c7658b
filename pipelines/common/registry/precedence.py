"""Which plugin has a name that several claim.

The nearest one to the user has it: a plugin named by path before one of an installed distribution,
that before what ships with the project. Of two that are equally near neither has it, since nobody
could tell which one is meant. Only the name is concerned; the rest of both plugins works.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Generic

from pipelines.common.registry.entries import Entry, R
from pipelines.common.registry.hookspecs import CommandRecord, WeightFormatRecord


@dataclass(frozen=True)
class Settled(Generic[R]):
    """What came of the records of one kind.

    Attributes:
        taken: Those that can be used, by name, in the order in which they were found.
        disabled: Those that nobody can use.
        clashes: One line for each clash that has disabled some.
        overrides: One line for each record that another one has taken the place of.
    """

    taken: dict[str, Entry[R]] = field(default_factory=dict)
    disabled: list[tuple[Entry[R], str]] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)


def settle(kind: str, entries: Iterable[Entry[R]]) -> Settled[R]:
    """Decides for all records of one kind.

    Args:
        kind: What they are, for messages.
        entries: All that plugins have registered.
    """
    settled: Settled[R] = Settled()
    entries = list(entries)
    by_level = sorted({entry.plugin.found.level for entry in entries}, reverse=True)
    taken: list[Entry[R]] = []
    for level in by_level:
        alike = [entry for entry in entries if entry.plugin.found.level == level]
        decided = [*taken, *(entry for entry, _ in settled.disabled)]
        for entry in alike:
            if nearer := _first(entry, decided):
                settled.overrides.append(_overridden(kind, entry, *nearer, nearer[0] in taken))
                continue
            rivals = [other for other in alike if other is entry or _shared(entry, other)]
            if len(rivals) == 1:
                taken.append(entry)
                continue
            line = _clash(kind, entry, rivals)
            settled.disabled.append((entry, line))
            if line not in settled.clashes:
                settled.clashes.append(line)
    chosen = set(map(id, taken))
    settled.taken.update((e.record.name, e) for e in entries if id(e) in chosen)
    return settled


def without_drivers_commands(
    entries: Iterable[Entry[Any]],
) -> tuple[list[Entry[Any]], list[Entry[Any]]]:
    """Entries but for commands that are called like those of the driver; and these.

    Whoever types one of those means that, whatever plugins there are.
    """
    entries = list(entries)
    commands = [entry for entry in entries if isinstance(entry.record, CommandRecord)]
    names = {entry.record.name for entry in commands if entry.plugin.built_in}
    out = [e for e in commands if e.record.name in names and not e.plugin.built_in]
    left_out = set(map(id, out))
    return [entry for entry in entries if id(entry) not in left_out], out


def _first(entry: Entry[R], others: Iterable[Entry[R]]) -> tuple[Entry[R], str] | None:
    """The first that has something of an entry's, and what that is."""
    found = ((other, _shared(entry, other)) for other in others)
    return next(((other, what) for other, what in found if what), None)


def _shared(one: Entry[R], other: Entry[R]) -> str:
    """What two records cannot both have; empty if they can be together."""
    first, second = one.record, other.record
    if first.name == second.name:
        return "that name"
    if not (isinstance(first, WeightFormatRecord) and isinstance(second, WeightFormatRecord)):
        return ""
    if shared := set(first.suffixes) & set(second.suffixes):
        return f"the ending {min(shared)}"
    if shared := set(first.files) & set(second.files):
        return f"the file {min(shared)}"
    for magic in second.magic:
        if any(magic.startswith(m) or m.startswith(magic) for m in first.magic):
            return f"the beginning {magic!r}"
    return ""


def _overridden(kind: str, entry: Entry[R], nearer: Entry[R], what: str, used: bool) -> str:
    if not used:
        return (
            f"{kind} '{entry.record.name}' of {entry.plugin} is left out as well: {nearer.plugin}"
            f" has {what} and comes first"
        )
    if entry.record.name == nearer.record.name:
        return (
            f"{kind} '{entry.record.name}' is that of {nearer.plugin}; that of {entry.plugin} is"
            " left out"
        )
    return (
        f"{kind} '{entry.record.name}' of {entry.plugin} is left out: '{nearer.record.name}' of"
        f" {nearer.plugin} has {what} and comes first"
    )


def _clash(kind: str, entry: Entry[R], rivals: list[Entry[R]]) -> str:
    """What is said where several are equally near."""
    names = dict.fromkeys(rival.record.name for rival in rivals)
    if len(names) == 1:
        who = " and ".join(str(rival.plugin) for rival in rivals)
        what = f"{kind} '{entry.record.name}' is disabled: {who} both bring it"
    else:
        who = " and ".join(f"'{rival.record.name}' of {rival.plugin}" for rival in rivals)
        other = next(rival for rival in rivals if rival is not entry)
        what = f"{kind}s {who} are disabled: they share {_shared(entry, other)}"
    return f"{what}; rename one, or leave a plugin out with `left_out`"
