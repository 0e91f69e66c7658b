"""Finds plugins and collects their records.

Plugins come from four places, in this order: the built-ins, the entry points of installed
distributions, the `plugins` folder of a checkout, and the paths that the user names. Code is loaded
from nowhere else.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pluggy

import pipelines
from pipelines.common import builtins, hookspecs, opened
from pipelines.common.errors import (
    ModelFileError,
    OpPackageError,
    PluginError,
    TargetError,
    UsageError,
)
from pipelines.common.files import exists, is_file, is_folder, resolved
from pipelines.common.hookspecs import (
    Lazy,
    OpPackageRecord,
    PipelineRecord,
    Record,
    TargetRecord,
    WeightFormatRecord,
)
from pipelines.common.importing import import_from
from pipelines.common.op_packages import NATIVE, find

if TYPE_CHECKING:
    from pipelines.common.op_packages.find import FoundPackage
    from pipelines.common.op_packages.package import LoadedPackage
    from pipelines.common.progress import Progress
    from pipelines.common.target import Target
    from pipelines.common.text_generation import ModelOptions, TextPipeline
    from pipelines.common.weights.model_file import ModelFile

ENTRY_POINT_GROUP = "run_pipeline.plugins"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_FUNCTION_NAME = re.compile(r"[\w.]+:\w+")

F = TypeVar("F", bound=Callable[..., object])
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Plugin:
    """Where records come from.

    Attributes:
        name: The plugin's own name: of its entry point, file or folder.
        provenance: ``built-in``, ``entry point (distribution version)``, or a path.
        module: The module that holds its hooks.
    """

    name: str
    provenance: str
    module: ModuleType

    def __str__(self) -> str:
        return f"plugin '{self.name}' ({self.provenance})"


@dataclass(frozen=True)
class Entry(Generic[R]):
    """A record with the plugin that brought it."""

    record: R
    plugin: Plugin

    def missing_modules(self) -> tuple[str, ...]:
        """The modules that the record requires and that cannot be imported; imports none."""
        required = self.record.requires if isinstance(self.record, TargetRecord) else ()
        return tuple(name for name in required if importlib.util.find_spec(name) is None)

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


class Registry:
    """The records of all plugins, by name.

    Attributes:
        pipelines: Pipelines, the built-in ones first.
        targets: Targets, likewise.
        weight_formats: Weight formats, likewise.
        op_packages: Custom op packages, likewise.
        problems: One line for each plugin that was skipped.
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
            PluginError: Two plugins claim one name.
        """
        registry = cls(strict=strict)
        registry.add("builtins", "built-in", lambda: builtins)
        for entry_point in entry_points(group=ENTRY_POINT_GROUP):
            registry.add(
                entry_point.name,
                _entry_point_provenance(entry_point),
                partial(_entry_point_module, entry_point),
            )
        for path in dict.fromkeys([*_checkout_plugins(), *_named_plugins(plugin_paths)]):
            registry.add(path.stem, str(path), partial(import_from, path))
        return registry

    def add(self, name: str, provenance: str, load: Callable[[], ModuleType]) -> None:
        """Loads one plugin and takes in its records.

        Args:
            name: The plugin's name.
            provenance: Where it was found, for people.
            load: Imports its module.

        Raises:
            PluginError: It claims a name that another plugin has.
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
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.problems.append(f"plugin '{name}' ({provenance}) was skipped: {reason}")
            return
        for record in records:
            self._take(record, plugin)

    def load_pipeline(self, name: str) -> TextPipeline:
        """The pipeline `name`.

        Raises:
            UsageError: No pipeline has that name.
            PluginError: What its record points to cannot be imported.
        """
        entry = _lookup("pipeline", name, self.pipelines)
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
            TargetError: A module that it requires is not installed.
            PluginError: What its record points to cannot be imported.
        """
        entry = self.target(name)
        if missing := entry.missing_modules():
            raise TargetError(f"target '{name}' needs {', '.join(missing)}, not installed here")
        return _function(entry.record.load, entry)()

    def opener(self, path: Path) -> Callable[[Path], ModelFile]:
        """What opens the model file `path`, told by its first bytes or the ending of its name.

        Raises:
            ModelFileError: There is no such file, it cannot be read, or is of no known format.
            PluginError: What the format's record points to cannot be imported.
        """
        from pipelines.common.weights.model_file import open_file

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
        from pipelines.common.graph.trace import trace

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
                    _check(record, hook, kind)
                    yield record

    def _take(self, record: Record, plugin: Plugin) -> None:
        match record:
            case PipelineRecord():
                _insert("pipeline", record.name, self.pipelines, Entry(record, plugin))
            case TargetRecord():
                _insert("target", record.name, self.targets, Entry(record, plugin))
            case WeightFormatRecord():
                for other in self.weight_formats.values():
                    if shared := set(record.suffixes) & set(other.record.suffixes):
                        _refuse(f"the ending {min(shared)}", other.plugin, plugin)
                    for magic in other.record.magic:
                        if any(magic.startswith(m) or m.startswith(magic) for m in record.magic):
                            _refuse(f"the beginning {magic!r}", other.plugin, plugin)
                _insert("weight format", record.name, self.weight_formats, Entry(record, plugin))
            case OpPackageRecord():
                _insert("op package", record.name, self.op_packages, Entry(record, plugin))


def unknown_name(kind: str, name: str, names: Iterable[str]) -> UsageError:
    """The error for a name that nothing has: the nearest one and all that exist."""
    names = sorted(names)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f", did you mean '{near[0]}'?" if near else "."
    return UsageError(f"unknown {kind} '{name}'{hint} There are: {', '.join(names)}")


def _lookup(kind: str, name: str, entries: Mapping[str, Entry[R]]) -> Entry[R]:
    if name not in entries:
        raise unknown_name(kind, name, entries)
    return entries[name]


def _insert(kind: str, name: str, entries: dict[str, Entry[R]], entry: Entry[R]) -> None:
    if name in entries:
        _refuse(f"the {kind} '{name}'", entries[name].plugin, entry.plugin)
    entries[name] = entry


def _refuse(what: str, first: Plugin, second: Plugin) -> None:
    raise PluginError(f"{what} is registered twice: by {first} and by {second}; remove one of them")


def _check(record: Any, hook: str, kind: type[Record]) -> None:
    if not isinstance(record, kind):
        raise TypeError(f"{hook} returned {record!r}; expected {kind.__name__} records")
    if not _NAME.fullmatch(record.name):
        raise ValueError(f"{hook}: '{record.name}' is no name (a-z, 0-9, '-' and '_')")
    if isinstance(record, TargetRecord) and record.name == "auto":
        raise ValueError(f"{hook}: 'auto' stands for the best target; call it otherwise")
    if isinstance(record, OpPackageRecord):
        if not isinstance(record.path, Path):
            raise TypeError(f"{hook}: the path of '{record.name}' is no Path")
        return
    function = record.open if isinstance(record, WeightFormatRecord) else record.load
    if isinstance(function, str) and not _FUNCTION_NAME.fullmatch(function):
        raise ValueError(f"{hook}: '{function}' of '{record.name}' is not 'module:function'")


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
        raise PluginError(f"{entry.plugin}: cannot load '{entry.record.name}': {error}") from error
    function: F | None = getattr(imported, attribute, None)
    if function is None:
        raise PluginError(f"{entry.plugin}: '{lazy}' of '{entry.record.name}' does not exist")
    return function


def _entry_point_provenance(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist
    assert distribution is not None
    return f"entry point ({distribution.name} {distribution.version})"


def _entry_point_module(entry_point: EntryPoint) -> ModuleType:
    opened.watch()
    module = entry_point.load()
    if not isinstance(module, ModuleType):
        raise TypeError(f"the entry point '{entry_point.value}' is no module")
    return module


def _checkout_plugins() -> Iterator[Path]:
    """The plugins of the `plugins` folder, when this package runs from a checkout."""
    root = Path(pipelines.__path__[0]).resolve().parent
    # An installed package has strangers for neighbours: the driver's script tells a checkout.
    if is_file(root / "run_pipeline.py") and is_folder(root / "plugins"):
        yield from _plugins_in(root / "plugins")


def _named_plugins(paths: Iterable[Path]) -> Iterator[Path]:
    for given in paths:
        path = resolved(given)
        if not exists(path):
            raise UsageError(f"no such plugin path: {given}")
        if is_file(path / "__init__.py") or (is_file(path) and path.suffix == ".py"):
            yield path
            continue
        try:
            yield from _plugins_in(path)
        except OSError as error:
            raise UsageError(
                f"cannot use plugin path {given}: {error.strerror}; expected a .py file, a package"
                " folder, or a folder of plugins"
            ) from error


def _plugins_in(folder: Path) -> Sequence[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(("_", "."))
        and (path.suffix == ".py" or is_file(path / "__init__.py"))
    ]
