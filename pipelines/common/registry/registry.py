"""Finds plugins and collects their records.

Plugins come from four places, in this order: the built-ins, the entry points of installed
distributions, the project's own `plugins` folder, and the paths that the user names. Code is loaded
from nowhere else.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pluggy

from pipelines.common import dependencies
from pipelines.common.errors import (
    ModelFileError,
    OpPackageError,
    PipelineError,
    PluginError,
    TargetError,
    UsageError,
    one_line,
)
from pipelines.common.importing import import_from
from pipelines.common.op_packages import NATIVE, find
from pipelines.common.registry import builtins, hookspecs, plugins
from pipelines.common.registry.hookspecs import (
    Lazy,
    OpPackageRecord,
    PipelineRecord,
    Record,
    TargetRecord,
    WeightFormatRecord,
)
from pipelines.common.registry.plugins import (
    BUILT_IN,
    ENTRY_POINT_GROUP,
    Plugin,
    check_record,
    entry_point_module,
    entry_point_provenance,
)

if TYPE_CHECKING:
    from pipelines.common.checkpoints.model_file import ModelFile
    from pipelines.common.op_packages.find import FoundPackage
    from pipelines.common.program.package import LoadedPackage
    from pipelines.common.program.target import Availability, Target
    from pipelines.common.progress import Progress
    from pipelines.common.text_generation import ModelOptions, TextPipeline

F = TypeVar("F", bound=Callable[..., object])
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Entry(Generic[R]):
    """A record with the plugin that brought it."""

    record: R
    plugin: Plugin

    def missing_modules(self) -> tuple[str, ...]:
        """The modules that the record requires and that cannot be imported; imports none."""
        required = self.record.requires if isinstance(self.record, TargetRecord) else ()
        return tuple(name for name in required if not _importable(name))

    def wrong_modules(self) -> dependencies.Problem | None:
        """What is wrong with the modules that the record requires, missing ones first."""
        if missing := self.missing_modules():
            return dependencies.missing(missing)
        required = self.record.requires if isinstance(self.record, TargetRecord) else ()
        return next(filter(None, map(dependencies.problem, required)), None)

    def state(self) -> str:
        """Why it cannot be used, as far as a look tells; empty if nothing speaks against it."""
        if missing := self.missing_modules():
            return f"unavailable: needs {', '.join(missing)}"
        if not isinstance(self.record, OpPackageRecord):
            return ""
        from pipelines.common.op_packages.manifest import read_manifest

        try:
            manifest = read_manifest(self.record.path)
        except OpPackageError as error:
            return f"unavailable: {error}"
        built = manifest.library is None or manifest.find_library() is not None
        return "" if built else "library not built"


def _importable(name: str) -> bool:
    """Whether there is a module of that name; of one in a package the package is imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # its package is not there, or the name is none
        return False


class Registry:
    """The records of all plugins, by name.

    Attributes:
        pipelines: Pipelines, the built-in ones first.
        targets: Targets, likewise.
        weight_formats: Weight formats, likewise.
        op_packages: Custom op packages, likewise.
        problems: One line for each plugin, or record of one, that was skipped.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.pipelines: dict[str, Entry[PipelineRecord]] = {}
        self.targets: dict[str, Entry[TargetRecord]] = {}
        self.weight_formats: dict[str, Entry[WeightFormatRecord]] = {}
        self.op_packages: dict[str, Entry[OpPackageRecord]] = {}
        self.problems: list[str] = []
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
        entry = _lookup("pipeline", name, self.pipelines)
        dependencies.check("numpy", "tokenizers")
        with self._answering(entry):
            return _function(entry.record.load, entry)()

    def target(self, name: str) -> Entry[TargetRecord]:
        """The record of a target.

        Raises:
            UsageError: No target has that name.
        """
        return _lookup("target", name, self.targets)

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
            return _function(entry.record.load, entry)()

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

    def opener(self, path: Path) -> Callable[[Path], ModelFile]:
        """What opens the model file `path`, told by its first bytes or the ending of its name.

        Raises:
            ModelFileError: There is no such file, it cannot be read, or is of no known format.
            PluginError: The format cannot be loaded.
        """
        from pipelines.common.checkpoints.model_file import open_file

        formats = self.weight_formats.values()
        magics = [magic for entry in formats for magic in entry.record.magic]
        with open_file(path) as file:
            start = file.read(max(map(len, magics), default=0))
        for entry in formats:
            if start.startswith(entry.record.magic):
                return _function(entry.record.open, entry)
        for entry in formats:
            if path.name.lower().endswith(entry.record.suffixes):
                return _function(entry.record.open, entry)
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

    def typed_op_package(self, reference: str) -> FoundPackage:
        """The op package that the user means by a registered name or a path."""
        (package,) = find.typed([reference], self._registered_op_packages())
        return package

    def typed_op_packages(self, options: ModelOptions) -> tuple[FoundPackage, ...]:
        """Those that the user named for a model, the last one first.

        Raises:
            OpPackageError: Two have one name.
        """
        references = [str(path) for path in reversed(options.custom_ops)]
        return find.typed(references, self._registered_op_packages())

    def registered_op_package(self, name: str) -> FoundPackage | None:
        """The op package that is registered under a name; None if there is none."""
        return next((p for p in self._registered_op_packages() if p.name == name), None)

    def load_op_package(self, package: FoundPackage, target: str | None = None) -> LoadedPackage:
        """Loads an op package that was found.

        Args:
            package: What `typed_op_package` or `registered_op_package` has found.
            target: What is to run; the library is left alone if the package has no rules for it.
                None loads it in any case.

        Raises:
            OpPackageError: It cannot be used.
        """
        from pipelines.common.op_packages.load import load_package

        return load_package(package, targets=self.targets, target=target, strict=self._strict)

    def _registered_op_packages(self) -> tuple[FoundPackage, ...]:
        return find.registered(entry.record for entry in self.op_packages.values())

    def op_packages_with(self, operator: str) -> dict[str, list[str]]:
        """The registered op packages with a rule for an operator: their names, and the targets."""
        from pipelines.common.graph.pattern_trace import trace

        found = {}
        for package in self._registered_op_packages():
            try:
                rules = self.load_op_package(package).contents.rules
            except OpPackageError:  # what cannot be loaded cannot help either
                continue
            if targets := [
                target
                for target, of_target in rules.items()
                if any(operator in trace(rule.pattern).operators.split(" + ") for rule in of_target)
            ]:
                found[package.name] = targets
        return found

    def load_op_packages(
        self, options: ModelOptions, progress: Progress
    ) -> tuple[LoadedPackage, ...]:
        """The op packages that a model runs with, the one whose rules come first at the front.

        Those that the user named come before those of plugins, and the last of them first; what
        ships with the project is last. Of these registered ones, one that cannot be used is left
        out with a notice.

        Args:
            options: What the user asked for.
            progress: Told what is left out, and which of two packages for one pattern wins.

        Raises:
            OpPackageError: One that the user named cannot be used, or two have one name.
        """
        from pipelines.common.op_packages.conflicts import conflicts

        typed = self.typed_op_packages(options)
        named = [self.load_op_package(package, options.target) for package in typed]
        for line in conflicts(named, options.target):
            progress.notice(line)
        packages, found = named.copy(), [*typed]
        registered = self._registered_op_packages() if options.registered_ops else ()
        for package in reversed(registered):
            if any(package.path == other.path for other in typed) or (
                package.name == NATIVE and not options.native_ops
            ):
                continue
            try:
                packages.append(self.load_op_package(package, options.target))
            except OpPackageError as error:
                progress.notice(_left_out(package.name, error))
            else:
                found.append(package)
        find.check_names(found)
        return tuple(packages)

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


def unknown_name(kind: str, name: str, names: Iterable[str]) -> UsageError:
    """The error for a name that nothing has: the nearest one and all that exist."""
    names = sorted(names)
    near = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f", did you mean '{near[0]}'?" if near else "."
    return UsageError(f"unknown {kind} '{name}'{hint} There are: {', '.join(names)}")


def _lookup(kind: str, name: str, entries: Mapping[str, Entry[R]]) -> Entry[R]:
    if name not in entries:
        raise unknown_name(kind, name, entries)
    return entries[name]


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


def _left_out(name: str, error: OpPackageError) -> str:
    """What the user is told when a registered op package cannot be used."""
    from pipelines.common.op_packages.load import LibraryNotBuiltError

    if name == NATIVE and isinstance(error, LibraryNotBuiltError):
        return (
            "native CPU kernels are not built, so the stock operators run: prompts take 2.6 times"
            " as long, and memory is doubled; with a C++ compiler: run-pipeline ops build native"
        )
    return f"op package '{name}' is left out: {error}"


def _function(lazy: Lazy[F], entry: Entry[Any]) -> F:
    """What a record's field stands for, imported if it is a name."""
    if not isinstance(lazy, str):
        return lazy
    module, _, attribute = lazy.partition(":")
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        if explanation := dependencies.explained(error):
            raise explanation from error
        if entry.plugin.provenance == BUILT_IN:  # no stranger's fault
            raise
        raise PluginError(
            f"{entry.plugin}: cannot load '{entry.record.name}': {one_line(error)}"
        ) from error
    function: F | None = getattr(imported, attribute, None)
    if function is None:
        raise PluginError(f"{entry.plugin}: '{lazy}' of '{entry.record.name}' does not exist")
    return function
