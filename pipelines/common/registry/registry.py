"""Loads plugins and collects their records."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from pipelines.common import bystanders, dependencies
from pipelines.common.errors import (
    ModelFileError,
    PipelineError,
    PluginError,
    TargetError,
    TokenizerError,
    UsageError,
    one_line,
    quoted,
)
from pipelines.common.registry import hookspecs
from pipelines.common.registry.entries import Entry, function, lookup, unknown_name
from pipelines.common.registry.hookspecs import (
    OpPackageRecord,
    PipelineRecord,
    Record,
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
from pipelines.common.registry.op_packages import OpPackages
from pipelines.common.registry.plugins import FoundPlugin, Plugin, find_plugins
from pipelines.common.registry.precedence import settle
from pipelines.common.registry.records import check_record

if TYPE_CHECKING:
    from pipelines.common.checkpoints.checkpoint import Checkpoint
    from pipelines.common.checkpoints.tokenizer_source import AnyTokenizer, TokenizerSource
    from pipelines.common.program.target import Availability, Target


_HOOKS: dict[str, type[Record]] = {
    "register_pipelines": PipelineRecord,
    "register_tasks": TaskRecord,
    "register_targets": TargetRecord,
    "register_weight_formats": WeightFormatRecord,
    "register_tokenizers": TokenizerRecord,
    "register_op_packages": OpPackageRecord,
}


class Registry:
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
        disabled: For each kind, as messages call it, the names that nobody has because several
            plugins claim them, and what is to be said of them.
        packages: Those that models run with, of the registered ones and of what users name.
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
        self.disabled: dict[str, dict[str, str]] = {}
        self.plugins: list[Plugin] = []
        self.left_out: list[FoundPlugin] = []
        self.problems: list[str] = []
        self.overrides: list[str] = []
        self.packages = OpPackages(self, strict=strict)
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
    ) -> Registry:
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

    def drop_pipeline(self, name: str, reason: str) -> None:
        """Leaves a pipeline out after all.

        Raises:
            PluginError: When strict.
        """
        plugin = self.pipelines.pop(name).plugin
        self._refuse(f"pipeline '{name}' of {plugin} was skipped: {reason}")

    def load_pipeline(self, name: str, task: str | None = None) -> Any:
        """The pipeline `name`, which is what its task takes: a `TextPipeline` for ``generate``.

        Args:
            name: Its name.
            task: What it has to be for; None for anything.

        Raises:
            UsageError: No pipeline has that name, or it is for another task.
            PluginError: It cannot be loaded.
            DependencyError: What all pipelines run on is not of a version that will do.
        """
        entry = lookup("pipeline", name, self.pipelines, self.disabled["pipeline"])
        if task not in (None, entry.record.task):
            raise UsageError(
                f"pipeline {name} is for the task '{entry.record.task}'; expected one for '{task}'"
            )
        dependencies.check("numpy", "tokenizers")
        bystanders.take_part(str(entry.plugin))
        with self._answering(entry):
            return function(entry.record.load, entry)()

    def command(self, name: str) -> Any:
        """The command of a pipeline, as its task makes it.

        Raises:
            UsageError: No pipeline has that name, or nothing brings its task.
            PluginError: The task cannot be loaded.
        """
        record = lookup("pipeline", name, self.pipelines, self.disabled["pipeline"]).record
        entry = lookup("task", record.task, self.tasks, self.disabled["task"])
        with self._answering(entry):
            return function(entry.record.command, entry)(record)

    def target(self, name: str) -> Entry[TargetRecord]:
        """The record of a target.

        Raises:
            UsageError: No target has that name.
        """
        return lookup("target", name, self.targets, self.disabled["target"])

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
        bystanders.take_part(str(entry.plugin))
        with self._answering(entry):
            return function(entry.record.load, entry)()

    def availability(self, name: str) -> Availability:
        """Whether a target can run here; one that cannot be loaded cannot.

        Raises:
            UsageError: No target has that name.
        """
        from pipelines.common.program.target import Availability

        entry = self.target(name)
        if wrong := entry.wrong_modules():
            return Availability(reason=wrong.reason, fix=wrong.fix)
        try:
            with self._asking(entry):
                found = function(entry.record.load, entry)().availability()
                if not isinstance(found, Availability):
                    raise TypeError(f"availability() returned {found!r}; expected an Availability")
                found.check()
                return found
        # Also where the target itself says so in one line: others can run all the same.
        except PipelineError as error:
            return Availability(reason=str(error), device_found=True)

    def versions(self, name: str) -> dict[str, str]:
        """Versions of what a target runs on; none if it cannot be loaded.

        Raises:
            UsageError: No target has that name.
        """
        entry = self.target(name)
        if entry.wrong_modules():
            return {}
        with contextlib.suppress(PipelineError), self._asking(entry):
            found = dict(function(entry.record.load, entry)().versions())
            return {str(package): str(version) for package, version in found.items()}
        return {}

    def opener(self, path: Path) -> Callable[[Path], Checkpoint]:
        """What opens the model file `path`, told by its first bytes or the ending of its name.

        Raises:
            ModelFileError: There is no such file, it cannot be read, or is of no known format.
            PluginError: The format cannot be loaded, or several plugins claim it.
        """
        from pipelines.common.checkpoints.checkpoint import open_file

        taken = self.weight_formats.values()
        disabled = {id(entry): problem for entry, problem in self._disabled_formats}
        formats = [*taken, *(entry for entry, _ in self._disabled_formats)]
        magics = [magic for entry in formats for magic in entry.record.magic]
        with open_file(path) as file:
            start = file.read(max(map(len, magics), default=0))
        by_content = [e for e in formats if start.startswith(e.record.magic)]
        by_name = [e for e in formats if path.name.lower().endswith(e.record.suffixes)]
        for entry in (*by_content, *by_name):
            if id(entry) in disabled:
                raise PluginError(f"{path} cannot be read: {disabled[id(entry)]}")
            bystanders.take_part(str(entry.plugin))
            return function(entry.record.open, entry)
        known = ", ".join(entry.record.name for entry in taken)
        raise ModelFileError(
            f"{path} is of no known format: neither its first bytes, {start!r}, nor its name are"
            f" those of {known}"
        )

    def tokenizer(self, source: TokenizerSource) -> AnyTokenizer:
        """The tokenizer of a checkpoint, made by what is registered for its kind.

        Raises:
            ModelFileError: A key is missing or of the wrong type.
            TokenizerError: It is of an unknown kind, damaged or contradictory.
            PluginError: Its kind cannot be loaded, or several plugins claim it.
            OfflineError: It is not in a cache that has to hold it.
        """
        from pipelines.common.checkpoints.tokenizer_source import REMEDY, AnyTokenizer

        kind = source.kind
        if kind not in self.tokenizers and kind not in self.disabled["tokenizer"]:
            known = ", ".join(map(repr, sorted(self.tokenizers)))
            raise TokenizerError(
                f"{source.name}: the tokenizer is of the kind {quoted(kind)}, known are {known};"
                f" {REMEDY}"
            )
        entry = lookup("tokenizer", kind, self.tokenizers, self.disabled["tokenizer"])
        bystanders.take_part(str(entry.plugin))
        with self._answering(entry):
            made = function(entry.record.load, entry)(source)
            if not isinstance(made, AnyTokenizer):
                raise TypeError(f"it made {made!r}; expected a Tokenizer or WordPieces")
            return made

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
        # As in `_load`. What ships with the project is no stranger: its failures are bugs.
        except (Exception, SystemExit) as error:
            if self._strict or entry.plugin.built_in:
                raise
            raise PluginError(
                f"{entry.plugin}: '{entry.record.name}' fails: {one_line(error)}"
            ) from error

    @contextmanager
    def _asking(self, entry: Entry[Any]) -> Iterator[None]:
        """Like `_answering`, where it is only asked what could be used.

        Raises:
            PluginError: The plugin fails.
        """
        plugin = entry.plugin.found
        with self._answering(entry), contextlib.ExitStack() as stack:
            if not entry.plugin.built_in:  # which always takes part
                stack.enter_context(bystanders.watching())
                stack.enter_context(bystanders.loading(str(plugin), plugin.package))
            yield

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
        entries = list(entries)
        kinds: tuple[tuple[str, type[Record], dict[str, Any]], ...] = (
            ("pipeline", PipelineRecord, self.pipelines),
            ("task", TaskRecord, self.tasks),
            ("target", TargetRecord, self.targets),
            ("weight format", WeightFormatRecord, self.weight_formats),
            ("tokenizer", TokenizerRecord, self.tokenizers),
            ("op package", OpPackageRecord, self.op_packages),
        )
        for name, kind, into in kinds:
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
                self.drop_pipeline(name, why)

    def _refuse(self, problem: str) -> None:
        if self._strict:
            raise PluginError(problem)
        self.problems.append(problem)
