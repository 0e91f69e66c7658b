"""What plugins have registered, made of their records when it is used."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.common import bystanders, dependencies
from pipelines.common.errors import (
    PipelineError,
    PluginError,
    TargetError,
    TokenizerError,
    UsageError,
    one_line,
    quoted,
)
from pipelines.common.registry.discovery import Discovered
from pipelines.common.registry.entries import Entry, function, lookup
from pipelines.common.registry.formats import told
from pipelines.common.registry.hookspecs import TargetRecord
from pipelines.common.registry.op_packages import OpPackages

if TYPE_CHECKING:
    from pipelines.common.checkpoints.checkpoint import Checkpoint
    from pipelines.common.checkpoints.opening import Strategy
    from pipelines.common.checkpoints.tokenizer_source import AnyTokenizer, TokenizerSource
    from pipelines.common.engine.sampling.sampler import Make, Sampler, Setup
    from pipelines.common.program.target import Availability, Deployment, Footprint, Target


class Registry(Discovered):
    """The records of all plugins, and what they describe.

    Args:
        strict: See `discover`.

    Attributes:
        packages: The op packages that models run with, of the registered ones and of what users
            name.
    """

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self.packages = OpPackages(self, strict=strict)

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

    def load_command(self, name: str) -> Any:
        """What a command that is no pipeline's does, see `CommandRecord.command`.

        Raises:
            UsageError: No command has that name.
            PluginError: It cannot be loaded.
        """
        entry = lookup("command", name, self.commands, self.disabled["command"])
        bystanders.take_part(str(entry.plugin))
        with self._answering(entry):
            return function(entry.record.command, entry)

    def load_sampler(self, name: str) -> tuple[Make, Mapping[str, float]]:
        """What makes the sampler `name`, and its settings with their values by default.

        Raises:
            UsageError: No sampler has that name.
            PluginError: It cannot be loaded.
        """
        entry = lookup("sampler", name, self.samplers, self.disabled["sampler"])
        bystanders.take_part(str(entry.plugin))
        load = function(entry.record.load, entry)

        def make(setup: Setup) -> Sampler | None:
            with self._answering(entry):
                return load(setup)

        return make, entry.record.settings

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

    def footprint(self, name: str, deployment: Deployment) -> Footprint | None:
        """Memory that a network takes on a target; None if the target does not tell.

        What the target requires need not be installed.

        Raises:
            UsageError: No target has that name.
            PipelineError: The target cannot run the network, or cannot be loaded.
        """
        from pipelines.common.program.footprint import MeasuredTarget

        entry = self.target(name)
        with self._asking(entry):
            target = function(entry.record.load, entry)()
            return target.footprint(deployment) if isinstance(target, MeasuredTarget) else None

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

    def opener(self, path: Path, weights: Strategy = "mmap") -> Callable[[Path], Checkpoint]:
        """What opens the model `path`, a file or a folder.

        Args:
            path: The model. A file is told by its first bytes or its name, a folder by the files
                in it.
            weights: How its tensors come into memory.

        Raises:
            ModelFileError: There is no such file, it cannot be read, or is of no known format.
            PluginError: The format cannot be loaded, or several plugins claim it.
        """
        from pipelines.common.checkpoints.opening import Opening

        taken = [*self.weight_formats.values()]
        disabled = {id(entry): problem for entry, problem in self._disabled_formats}
        entry = told([*taken, *(entry for entry, _ in self._disabled_formats)], path)
        if id(entry) in disabled:
            raise PluginError(f"{path} cannot be read: {disabled[id(entry)]}")
        bystanders.take_part(str(entry.plugin))
        of_families = [
            translation
            for pipeline in self.pipelines.values()
            for translation in pipeline.record.translations
            if translation.format == entry.record.name
        ]
        opens: Callable[..., Checkpoint] = function(entry.record.open, entry)
        return partial(opens, opening=Opening(weights, of_families))

    @property
    def short_names(self) -> dict[str, str]:
        """What users may call models of the hub for short; of pipelines alike, the first's."""
        records = [entry.record for entry in self.pipelines.values()]
        return {n: m for record in reversed(records) for n, m in record.short_names.items()}

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
