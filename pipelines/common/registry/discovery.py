"""Loads plugins and collects their records."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import pluggy

from pipelines.common import bystanders
from pipelines.common.errors import PluginError, one_line
from pipelines.common.registry import hookspecs
from pipelines.common.registry.entries import Entry, unknown_name
from pipelines.common.registry.hookspecs import (
    CommandRecord,
    OpPackageRecord,
    PipelineRecord,
    Record,
    SamplerRecord,
    TargetRecord,
    TaskRecord,
    TokenizerRecord,
    WeightFormatRecord,
)
from pipelines.common.registry.interface import (
    DECLARATION,
    check_hooks,
    check_version,
    declared_in,
)
from pipelines.common.registry.plugins import FoundPlugin, Plugin, find_plugins
from pipelines.common.registry.precedence import settle, without_drivers_commands
from pipelines.common.registry.records import check_record

# Each is called after what it registers, as the attribute of `Discovered` is.
_HOOKS: dict[str, type[Record]] = {
    "register_pipelines": PipelineRecord,
    "register_tasks": TaskRecord,
    "register_targets": TargetRecord,
    "register_weight_formats": WeightFormatRecord,
    "register_tokenizers": TokenizerRecord,
    "register_op_packages": OpPackageRecord,
    "register_commands": CommandRecord,
    "register_samplers": SamplerRecord,
}


class Discovered:
    """The records of all plugins, by name.

    Args:
        strict: See `discover`.

    Attributes:
        pipelines: Pipelines, the built-in ones first.
        tasks: Tasks, likewise.
        targets: Targets, likewise.
        weight_formats: Weight formats, likewise.
        tokenizers: Kinds of tokenizers, likewise.
        op_packages: Custom op packages, likewise.
        commands: Commands, likewise, but for those of pipelines.
        samplers: Samplers, likewise.
        disabled: For each kind, as messages call it, the names that nobody has because several
            plugins claim them, and what is to be said of them.
        plugins: All plugins that were found, but for those that were left out.
        left_out: Those that the user leaves out, which are not imported.
        problems: One line for each plugin, or record of one, that cannot be used.
        overrides: One line for each record in whose place another plugin's is taken.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.pipelines: dict[str, Entry[PipelineRecord]] = {}
        self.tasks: dict[str, Entry[TaskRecord]] = {}
        self.targets: dict[str, Entry[TargetRecord]] = {}
        self.weight_formats: dict[str, Entry[WeightFormatRecord]] = {}
        self.tokenizers: dict[str, Entry[TokenizerRecord]] = {}
        self.op_packages: dict[str, Entry[OpPackageRecord]] = {}
        self.commands: dict[str, Entry[CommandRecord]] = {}
        self.samplers: dict[str, Entry[SamplerRecord]] = {}
        self.disabled: dict[str, dict[str, str]] = {}
        self.plugins: list[Plugin] = []
        self.left_out: list[FoundPlugin] = []
        self.problems: list[str] = []
        self.overrides: list[str] = []
        self._disabled_formats: list[tuple[Entry[WeightFormatRecord], str]] = []
        self._strict = strict
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)

    @classmethod
    def discover(
        cls,
        plugin_paths: Iterable[Path] = (),
        *,
        left_out: Collection[str] = (),
        strict: bool = False,
    ) -> Self:
        """Loads every plugin that can be found.

        Args:
            plugin_paths: Plugins, and folders of plugins, beside those that are always looked for.
            left_out: Names of plugins that are not to be imported.
            strict: Whether a plugin that fails to load raises its error instead of being skipped,
                and two with one name raise one.

        Raises:
            UsageError: A path does not exist, or there is no plugin of a name.
            PluginError: Two plugins claim one name, when strict.
        """
        found = list(find_plugins(plugin_paths))
        names = {plugin.name for plugin in found[1:]}  # the first is the project itself
        for name in left_out:
            if name not in names:
                raise unknown_name("plugin", name, names)
        registry = cls(strict=strict)
        entries: list[Entry[Any]] = []
        registry.left_out = [plugin for plugin in found if plugin.name in left_out]
        bystanders.take_part(str(found[0]))
        with bystanders.watching():
            for plugin in found:
                if plugin.name not in left_out:
                    with bystanders.loading(str(plugin), plugin.package):
                        entries += registry._load(plugin)
        registry._settle(entries)
        return registry

    def _load(self, found: FoundPlugin) -> list[Entry[Any]]:
        """Imports a plugin and asks it for its records; one that fails has none.

        Whatever it raises comes through, when strict.
        """
        module = None
        start = time.perf_counter()
        try:
            module = found.load()
            plugin = Plugin(found, module, time.perf_counter() - start)
            check_version(getattr(module, DECLARATION, None))
            check_hooks(module, _HOOKS)
            self._manager.register(module)
            self._manager.check_pending()
            entries = [Entry(record, plugin) for record in self._records_of(plugin)]
        # This runs code of strangers, which may raise anything; here, and only here, whatever it
        # raises is the plugin's failure and none of the driver's.
        except (Exception, SystemExit) as error:
            if module is not None and self._manager.is_registered(module):
                self._manager.unregister(module)
            problem = one_line(error)
            if isinstance(error, PluginError):
                problem = str(error)
            elif module is None:
                try:
                    check_version(declared_in(found.source()))
                except PluginError as explanation:
                    if self._strict:
                        raise explanation from error
                    problem = str(explanation)
            if self._strict:
                raise
            self.problems.append(f"{found} was skipped: {problem}")
            self.plugins.append(Plugin(found, None, time.perf_counter() - start, problem))
            return []
        self.plugins.append(plugin)
        return entries

    def _records_of(self, plugin: Plugin) -> Iterator[Record]:
        """The checked records of a plugin that is registered with the manager."""
        others = self._manager.get_plugins() - {plugin.module}
        for hook, kind in _HOOKS.items():
            for records in self._manager.subset_hook_caller(hook, others)():
                for record in records:
                    check_record(record, hook, kind)
                    yield record

    def _settle(self, entries: Iterable[Entry[Any]]) -> None:
        """Takes in the records of all plugins, but for those whose names others have.

        Raises:
            PluginError: Two plugins that are equally near claim one name, when strict.
        """
        entries, drivers = without_drivers_commands(entries)
        for entry in drivers:
            self._drop("command", entry, "that is a command of the driver; rename it")
        for hook, kind in _HOOKS.items():
            plural = hook.removeprefix("register_")
            name = plural.removesuffix("s").replace("_", " ")
            into: dict[str, Any] = getattr(self, plural)
            settled = settle(name, [e for e in entries if isinstance(e.record, kind)])
            for clash in settled.clashes:
                self._refuse(clash)
            self.overrides += settled.overrides
            self.disabled[name] = {e.record.name: line for e, line in settled.disabled}
            if kind is WeightFormatRecord:
                self._disabled_formats = settled.disabled
            into.update(settled.taken)
        for name, entry in [*self.pipelines.items()]:
            if (task := entry.record.task) not in self.tasks:
                why = str(unknown_name("task", task, self.tasks))
                self.disabled["pipeline"][name] = f"pipeline '{name}' of {entry.plugin}: {why}"
                self._drop("pipeline", self.pipelines.pop(name), why)
        for name in self.pipelines.keys() & self.commands.keys():
            if self.commands[name].plugin.built_in:
                why = "that is a command of the driver; rename it"
                self._drop("pipeline", self.pipelines.pop(name), why)
            else:
                self._drop("command", self.commands.pop(name), "that is a pipeline; rename it")

    def _drop(self, kind: str, entry: Entry[Any], reason: str) -> None:
        self._refuse(f"{kind} '{entry.record.name}' of {entry.plugin} was skipped: {reason}")

    def _refuse(self, problem: str) -> None:
        if self._strict:
            raise PluginError(problem)
        self.problems.append(problem)
