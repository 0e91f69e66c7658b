"""An opened model, whether it is made from a checkpoint or read from an exported folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pipelines
from pipelines.common.chat.template import ChatSettings
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.export.tokenizer_files import tokenizer_files
from pipelines.common.program.package import LoadedPackage
from pipelines.common.program.runner import Runner
from pipelines.common.program.slot_runner import FED
from pipelines.common.program.target import Deployment, Program, Target
from pipelines.common.progress import Progress
from pipelines.common.text.tokenizer import Tokenizer
from pipelines.common.text_generation import GraphModel, Lookup, ModelOptions


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """What models have in common that targets lower to a graph, whatever is asked of them.

    Attributes:
        pipeline: Name of the pipeline that has opened it.
        program: Network and weights.
        options: What the user asked for.
        registry: Has the targets.
        progress: Told of every phase, and of what the user should know.
        load_packages: Loads the op packages that it runs with.
        reopen: See `GraphModel.exported`.
        versions: Versions of what took part in making it, beside those at work.
    """

    pipeline: str
    program: Program
    options: ModelOptions
    registry: Lookup
    progress: Progress
    load_packages: Callable[[], tuple[LoadedPackage, ...]]
    reopen: Callable[[Path], GraphModel]
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def packages(self) -> tuple[LoadedPackage, ...]:
        """The op packages that it runs with; they are loaded when it is started."""
        return self.load_packages()

    @property
    def target(self) -> Target:
        """The target asked for."""
        return self.registry.load_target(self.options.target)

    def deployment(self, *, slots: int, max_length: int) -> Deployment:
        """See `GraphModel.deployment`."""
        return Deployment(
            pipeline=self.pipeline,
            program=self.program,
            slots=slots,
            max_length=max_length,
            progress=self.progress,
            threads=self.options.threads_here(self.progress),
            device=self.options.device,
            packages=self.packages,
            pack_cache=self.options.pack_cache,
        )

    def exported(self, folder: Path) -> GraphModel:
        """See `GraphModel.exported`."""
        return self.reopen(folder)

    def describe(self) -> dict[str, Any]:
        """What runs: pipeline, model, encodings by number of weights, target, op packages."""
        origin = self.program.origin(self.progress)
        return {
            "pipeline": self.pipeline,
            "model": str(self.program.folder or origin.path),
            "model_fingerprint": origin.fingerprint,
            "model_name": origin.name,
            "quantization_encoding": origin.encoding,
            "encodings": dict(Counter(self.program.encodings.values())),
            "target": self.options.target,
            "op_packages": [package.name for package in self.packages],
            "versions": {
                "pipeline-driver": pipelines.__version__,
                **self.versions,
                **self.target.versions(),
            },
        }


@dataclass(frozen=True, kw_only=True)
class Model(OpenedModel):
    """Implements `TextModel` and `ChatModel`; builds nothing before `start`.

    Attributes:
        config: The decoder's dimensions.
        tokenizer: The model's, or the one that the user named.
        chat: See `ChatModel.chat`.
    """

    config: DecoderConfig
    tokenizer: Tokenizer
    chat: ChatSettings

    @property
    def context_length(self) -> int:
        """Most tokens, prompt and output together, that the model was made for."""
        return self.config.context_length

    def start(self, *, slots: int, max_length: int, target: Target | None = None) -> Runner:
        """Makes a runner, see `Target.start`, on the target asked for or one in its place."""
        deployment = self.deployment(slots=slots, max_length=max_length)
        deployment.interface.check_call(FED, "logits")
        return (target or self.target).start(deployment)

    def documents(self) -> Mapping[str, bytes]:
        """See `GraphModel.documents`."""
        return tokenizer_files(self.tokenizer, self.chat)
