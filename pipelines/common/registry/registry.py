"""Finds plugins and collects their records.

Plugins come from four places, in this order: the built-ins, the entry points of installed
distributions, the project's own `plugins` folder, and the paths that the user names. Code is loaded
from nowhere else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from pipelines.common import dependencies
from pipelines.common.errors import (
    ModelFileError,
    PipelineError,
    PluginError,
    TargetError,
    one_line,
)
from pipelines.common.importing import import_from
from pipelines.common.registry import builtins, hookspecs, plugins
from pipelines.common.registry.entries import Entry, R, function, lookup
from pipelines.common.registry.hookspecs import (
    OpPackageRecord,
    PipelineRecord,
    Record,
    TargetRecord,
    WeightFormatRecord,
)
from pipelines.common.registry.op_packages import OpPackages
from pipelines.common.registry.plugins import (
    BUILT_IN,
    ENTRY_POINT_GROUP,
    Plugin,
    check_record,
    entry_point_module,
    entry_point_provenance,
)

if TYPE_CHECKING:
    from pipelines.common.checkpoints.checkpoint import Checkpoint
    from pipelines.common.program.target import Availability, Target
    from pipelines.common.text_generation import TextPipeline


class Registry:
    """The records of all plugins, by name.

    Attributes:
        pipelines: Pipelines, the built-in ones first.
        targets: Targets, likewise.
        weight_formats: Weight formats, likewise.
        op_packages: Custom op packages, likewise.
        packages: Those that models run with, of the registered ones and of what users name.
        problems: One line for each plugin, or record of one, that was skipped.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.pipelines: dict[str, Entry[PipelineRecord]] = {}
        self.targets: dict[str, Entry[TargetRecord]] = {}
        self.weight_formats: dict[str, Entry[WeightFormatRecord]] = {}
        self.op_packages: dict[str, Entry[OpPackageRecord]] = {}
        self.problems: list[str] = []
        self.packages = OpPackages(self.op_packages, self.targets, strict=strict)
        self._strict = strict
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)

    @classmethod
    def discover(cls, plugin_paths: Iterable[Path] = (), *, strict: bool = False) -> Registry:
        """Loads every plugin that can be found.

        Args:
            plugin_paths: Plugins, and folders of plugins, beside those that are always looked for.
            strict: Whether a plugin that fails to load raises its error instead of being skipped.

        Raises:
            UsageError: A path does not exist.
            PluginError: Two plugins claim one name, when strict.
        """
        registry = cls(strict=strict)
        registry.add("builtins", BUILT_IN, lambda: builtins)
        for entry_point in entry_points(group=ENTRY_POINT_GROUP):
            registry.add(
                entry_point.name,
                entry_point_provenance(entry_point),
                partial(entry_point_module, entry_point),
            )
        for path in dict.fromkeys(
            [*plugins.shipped_plugins(), *plugins.named_plugins(plugin_paths)]
        ):
            registry.add(path.stem, str(path), partial(import_from, path))
        return registry

    def add(self, name: str, provenance: str, load: Callable[[], ModuleType]) -> None:
        """Loads one plugin and takes in its records, but for those whose name is taken.

        Args:
            name: The plugin's name.
            provenance: Where it was found, for people.
            load: Imports its module.

        Raises:
            PluginError: It claims a name that another plugin has, when strict.
        """
        module: ModuleType | None = None
        try:
            module = load()
            plugin = Plugin(name, provenance, module)
            self._manager.register(module)
            self._manager.check_pending()
            records = list(self._records_of(plugin))
        # This runs code of strangers, which may raise anything; here, and only here, whatever it
        # raises is the plugin's failure and none of the driver's.
        except (Exception, SystemExit) as error:
            if self._strict:
                raise
            if module is not None and self._manager.is_registered(module):
                self._manager.unregister(module)
            self.problems.append(f"plugin '{name}' ({provenance}) was skipped: {one_line(error)}")
            return
        for record in records:
            self._take(record, plugin)

    def drop_pipeline(self, name: str, reason: str) -> None:
        """Leaves a pipeline out after all.

        Raises:
            PluginError: When strict.
        """
        plugin = self.pipelines.pop(name).plugin
        self._refuse(f"pipeline '{name}' of {plugin} was skipped: {reason}")

    def load_pipeline(self, name: str) -> TextPipeline:
        """The pipeline `name`.

        Raises:
            UsageError: No pipeline has that name.
            PluginError: It cannot be loaded.
            DependencyError: What all pipelines run on is not of a version that will do.
        """
        entry = lookup("pipeline", name, self.pipelines)
        dependencies.check("numpy", "tokenizers")
        with self._answering(entry):
            return function(entry.record.load, entry)()

    def target(self, name: str) -> Entry[TargetRecord]:
        """The record of a target.

        Raises:
            UsageError: No target has that name.
        """
        return lookup("target", name, self.targets)

    def load_target(self, name: str) -> Target:
        """The target `name`.

        Raises:
            UsageError: No target has that name.
            TargetError: A module that it requires is not installed, or of another version.
            PluginError: It cannot be loaded.
        """
        entry = self.target(name)
        if wrong := entry.wrong_modules():
            raise TargetError(f"target '{name}' cannot be used: {wrong}")
        with self._answering(entry):
            return function(entry.record.load, entry)()

    def availability(self, name: str) -> Availability:
        """Whether a target can run here; one that cannot be loaded cannot.

        Raises:
            UsageError: No target has that name.
        """
        from pipelines.common.program.target import Availability

        if wrong := self.target(name).wrong_modules():
            return Availability(reason=wrong.reason, fix=wrong.fix)
        try:
            with self._answering(self.target(name)):
                found = self.load_target(name).availability()
                if not isinstance(found, Availability):
                    raise TypeError(f"availability() returned {found!r}; expected an Availability")
                return found
        except PluginError as error:
            return Availability(reason=str(error), device_found=True)

    def versions(self, name: str) -> dict[str, str]:
        """Versions of what a target runs on; none if it cannot be loaded.

        Raises:
            UsageError: No target has that name.
        """
        if self.target(name).wrong_modules():
            return {}
        with contextlib.suppress(PluginError), self._answering(self.target(name)):
            return dict(self.load_target(name).versions())
        return {}

    def opener(self, path: Path) -> Callable[[Path], Checkpoint]:
        """What opens the model file `path`, told by its first bytes or the ending of its name.

        Raises:
            ModelFileError: There is no such file, it cannot be read, or is of no known format.
            PluginError: The format cannot be loaded.
        """
        from pipelines.common.checkpoints.checkpoint import open_file

        formats = self.weight_formats.values()
        magics = [magic for entry in formats for magic in entry.record.magic]
        with open_file(path) as file:
            start = file.read(max(map(len, magics), default=0))
        for entry in formats:
            if start.startswith(entry.record.magic):
                return function(entry.record.open, entry)
        for entry in formats:
            if path.name.lower().endswith(entry.record.suffixes):
                return function(entry.record.open, entry)
        known = ", ".join(entry.record.name for entry in formats)
        raise ModelFileError(
            f"{path} is of no known format: neither its first bytes, {start!r}, nor its name are"
            f" those of {known}"
        )

    def pipelines_for(self, architecture: str) -> list[str]:
        """Names of the pipelines that run model files of an architecture."""
        return [
            name
            for name, entry in self.pipelines.items()
            if architecture in entry.record.architectures
        ]

    @contextmanager
    def _answering(self, entry: Entry[Any]) -> Iterator[None]:
        """Wherein a plugin's own code runs: what it raises is told in its name, unless strict.

        Raises:
            PluginError: The plugin fails.
        """
        try:
            yield
        except PipelineError:
            raise
        # As in `add`. What ships with the project is no stranger: its failures are bugs.
        except Exception as error:
            if self._strict or entry.plugin.provenance == BUILT_IN:
                raise
            raise PluginError(
                f"{entry.plugin}: '{entry.record.name}' fails: {one_line(error)}"
            ) from error

    def _records_of(self, plugin: Plugin) -> Iterator[Record]:
        """The checked records of a plugin that is registered with the manager."""
        others = self._manager.get_plugins() - {plugin.module}
        hooks: dict[str, type[Record]] = {
            "register_pipelines": PipelineRecord,
            "register_targets": TargetRecord,
            "register_weight_formats": WeightFormatRecord,
            "register_op_packages": OpPackageRecord,
        }
        if not self._manager.get_hookcallers(plugin.module):
            raise TypeError(f"has none of the hooks {', '.join(hooks)}; each needs @hookimpl")
        for hook, kind in hooks.items():
            for records in self._manager.subset_hook_caller(hook, others)():
                for record in records:
                    check_record(record, hook, kind)
                    yield record

    def _take(self, record: Record, plugin: Plugin) -> None:
        match record:
            case PipelineRecord():
                self._insert("pipeline", self.pipelines, Entry(record, plugin))
            case TargetRecord():
                self._insert("target", self.targets, Entry(record, plugin))
            case WeightFormatRecord():
                for other in self.weight_formats.values():
                    if what := _in_common(record, other.record):
                        self._refuse(
                            _taken("weight format", record.name, plugin, what, other.plugin)
                        )
                        return
                self._insert("weight format", self.weight_formats, Entry(record, plugin))
            case OpPackageRecord():
                self._insert("op package", self.op_packages, Entry(record, plugin))

    def _insert(self, kind: str, entries: dict[str, Entry[R]], entry: Entry[R]) -> None:
        """Takes in a record; of two with one name the first stays."""
        name = entry.record.name
        if name in entries:
            self._refuse(_taken(kind, name, entry.plugin, "that name", entries[name].plugin))
            return
        entries[name] = entry

    def _refuse(self, problem: str) -> None:
        if self._strict:
            raise PluginError(problem)
        self.problems.append(problem)


def _in_common(one: WeightFormatRecord, other: WeightFormatRecord) -> str | None:
    """By what files of two formats could be taken for each other."""
    if shared := set(one.suffixes) & set(other.suffixes):
        return f"the ending {min(shared)}"
    for magic in other.magic:
        if any(magic.startswith(m) or m.startswith(magic) for m in one.magic):
            return f"the beginning {magic!r}"
    return None


def _taken(kind: str, name: str, plugin: Plugin, what: str, other: Plugin) -> str:
    """What is said of a record that cannot be taken in."""
    return f"{kind} '{name}' of {plugin} was skipped: {other} has {what}; rename one of them"
