"""Which op packages a model runs with: those that the user names, and those that are registered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from pipelines.common.bystanders import take_part
from pipelines.common.errors import OpPackageError, PluginError
from pipelines.common.files import resolved
from pipelines.common.op_packages import NATIVE, find
from pipelines.common.registry.entries import Entry
from pipelines.common.registry.hookspecs import OpPackageRecord, PipelineRecord, TargetRecord

if TYPE_CHECKING:
    from pipelines.common.op_packages.find import FoundPackage
    from pipelines.common.program.package import LoadedPackage
    from pipelines.common.progress import Progress
    from pipelines.common.text_generation import ModelOptions


class Registered(Protocol):
    """What plugins have registered, see `pipelines.common.registry.registry.Registry`."""

    @property
    def op_packages(self) -> Mapping[str, Entry[OpPackageRecord]]:
        """Op packages, by name."""

    @property
    def pipelines(self) -> Mapping[str, Entry[PipelineRecord]]:
        """Pipelines, by name."""

    @property
    def targets(self) -> Mapping[str, Entry[TargetRecord]]:
        """Targets, by name."""

    @property
    def disabled(self) -> Mapping[str, Mapping[str, str]]:
        """What is to be said of names that several plugins claim, by kind."""


class OpPackages:
    """The op packages that are registered, and those that users name.

    Args:
        registry: What is registered; more may come.
        strict: Whether what their code raises comes through, instead of being one line.
    """

    def __init__(self, registry: Registered, *, strict: bool) -> None:
        self._registry = registry
        self._strict = strict

    def typed(self, reference: str) -> FoundPackage:
        """The op package that the user means by a registered name or a path.

        Raises:
            PluginError: Several plugins claim the name.
        """
        (package,) = self._typed([reference])
        return package

    def typed_by(self, options: ModelOptions) -> tuple[FoundPackage, ...]:
        """Those that the user named for a model, the last one first.

        Raises:
            OpPackageError: Two have one name.
            PluginError: Several plugins claim one.
        """
        return self._typed([str(path) for path in reversed(options.custom_ops)])

    def applies_to(self, name: str) -> tuple[str, ...] | None:
        """The pipelines that a registered op package runs with unasked; None for every one.

        A plugin's packages are for the networks that it brings, and nobody else's.
        """
        entry = self._registry.op_packages[name]
        if entry.record.everywhere:
            return None
        pipelines = self._registry.pipelines.items()
        return tuple(name for name, of in pipelines if of.plugin is entry.plugin)

    def registered(self, name: str) -> FoundPackage | None:
        """The op package that is registered under a name; None if there is none."""
        return next((p for p in self._registered() if p.name == name), None)

    def load(self, package: FoundPackage, target: str | None = None) -> LoadedPackage:
        """Loads an op package that was found.

        Args:
            package: What `typed` or `registered` has found.
            target: What is to run; the library is left alone if the package has no rules for it.
                None loads it in any case.

        Raises:
            OpPackageError: It cannot be used.
        """
        from pipelines.common.op_packages.load import load_package

        for entry in self._registry.op_packages.values():
            if resolved(entry.record.path) == package.path:
                take_part(str(entry.plugin))
        targets = self._registry.targets
        return load_package(package, targets=targets, target=target, strict=self._strict)

    def _registered(self) -> tuple[FoundPackage, ...]:
        entries = self._registry.op_packages.items()
        return find.registered({name: entry.record.path for name, entry in entries})

    def _typed(self, references: Iterable[str]) -> tuple[FoundPackage, ...]:
        references = list(references)
        for reference in references:
            if problem := self._registry.disabled.get("op package", {}).get(reference):
                raise PluginError(problem)
        return find.typed(references, self._registered())

    def _unasked(self, pipeline: str | None) -> tuple[FoundPackage, ...]:
        """The registered ones that a pipeline runs with."""
        applies = {package.name: self.applies_to(package.name) for package in self._registered()}
        return tuple(
            package
            for package in self._registered()
            if (pipelines := applies[package.name]) is None or pipeline in pipelines
        )

    def with_rule_for(self, operator: str) -> dict[str, list[str]]:
        """The registered op packages with a rule for an operator: their names, and the targets."""
        from pipelines.common.graph.pattern_trace import trace

        found = {}
        for package in self._registered():
            try:
                rules = self.load(package).contents.rules
            except OpPackageError:  # what cannot be loaded cannot help either
                continue
            if targets := [
                target
                for target, of_target in rules.items()
                if any(operator in trace(rule.pattern).operators.split(" + ") for rule in of_target)
            ]:
                found[package.name] = targets
        return found

    def of_model(
        self, options: ModelOptions, progress: Progress, pipeline: str | None = None
    ) -> tuple[LoadedPackage, ...]:
        """The op packages that a model runs with, the one whose rules come first at the front.

        Those that the user named come before those of plugins, and the last of them first; what
        ships with the project is last. Of these registered ones, one that cannot be used is left
        out with a notice.

        Args:
            options: What the user asked for.
            progress: Told what is left out, and which of two packages for one pattern wins.
            pipeline: Whose model it is; None for one that no plugin's op packages are for, but
                those that are for all.

        Raises:
            OpPackageError: One that the user named cannot be used, or two have one name.
        """
        from pipelines.common.op_packages.conflicts import conflicts

        typed = self.typed_by(options)
        named = [self.load(package, options.target) for package in typed]
        for line in conflicts(named, options.target):
            progress.notice(line)
        packages, found = named.copy(), [*typed]
        registered = self._unasked(pipeline) if options.registered_ops else ()
        for package in reversed(registered):
            if any(package.path == other.path for other in typed) or (
                package.name == NATIVE and not options.native_ops
            ):
                continue
            try:
                packages.append(self.load(package, options.target))
            except OpPackageError as error:
                progress.notice(_left_out(package.name, error))
            else:
                found.append(package)
        find.check_names(found)
        return tuple(packages)


def _left_out(name: str, error: OpPackageError) -> str:
    """What the user is told when a registered op package cannot be used."""
    from pipelines.common.op_packages.load import LibraryNotBuiltError

    if name == NATIVE and isinstance(error, LibraryNotBuiltError):
        return (
            "native CPU kernels are not built, so the stock operators run, which take more time"
            " and memory; with a C++ compiler: run-pipeline ops build native"
        )
    return f"op package '{name}' is left out: {error}"
