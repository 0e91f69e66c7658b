"""What the author of a plugin imports; a family of decoders needs nothing else.

Only what hooks and their records need is imported with this module, which is read at every start of
the driver. The rest (`nn`, `ops`, `DecoderConfig`, `key`, rules) is imported when it is asked for.

A plugin's module may say which version of all this it was made for::

    PIPELINES_API = 2

A driver of another `API_VERSION` skips it with a line that says so, in the place of whatever error
it would come to.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipelines.common.checkpoints.huggingface.model import HuggingFaceModel
from pipelines.common.errors import (
    ModelFileError,
    PipelineError,
    PluginError,
    TokenizerError,
    UsageError,
)
from pipelines.common.registry.hookspecs import (
    API_VERSION,
    CommandRecord,
    OpPackageRecord,
    PipelineRecord,
    SamplerRecord,
    TargetRecord,
    TaskRecord,
    TokenizerRecord,
    Translation,
    WeightFormatRecord,
    hookimpl,
)

if TYPE_CHECKING:
    from pipelines.common import nn, ops
    from pipelines.common.checkpoints.tokenizer_source import TokenizerSource
    from pipelines.common.cli.command import pipeline_command
    from pipelines.common.cli.context import registry_of
    from pipelines.common.cli.grouping import grouped_options
    from pipelines.common.cli.options import ModelChoice
    from pipelines.common.cli.streams import print_json, print_lines
    from pipelines.common.decoder.config import DecoderConfig
    from pipelines.common.decoder.mixture import MixtureConfig
    from pipelines.common.decoder.numbers import key
    from pipelines.common.encoder.config import EncoderConfig
    from pipelines.common.engine.sampling.sampler import Candidates, Sampler, Setup
    from pipelines.common.graph import patterns
    from pipelines.common.graph.rules import Rule
    from pipelines.common.models.encoder import EncoderPipeline
    from pipelines.common.models.pipeline import DecoderPipeline
    from pipelines.common.ops import Spec, neutral_operator
    from pipelines.common.program.package import OpPackage
    from pipelines.common.text.tokenizer import Tokenizer

_LAZY: Final = {
    "nn": "pipelines.common.nn",
    "ops": "pipelines.common.ops",
    "patterns": "pipelines.common.graph.patterns",
    "Candidates": "pipelines.common.engine.sampling.sampler:Candidates",
    "EncoderConfig": "pipelines.common.encoder.config:EncoderConfig",
    "EncoderPipeline": "pipelines.common.models.encoder:EncoderPipeline",
    "DecoderConfig": "pipelines.common.decoder.config:DecoderConfig",
    "DecoderPipeline": "pipelines.common.models.pipeline:DecoderPipeline",
    "MixtureConfig": "pipelines.common.decoder.mixture:MixtureConfig",
    "ModelChoice": "pipelines.common.cli.options:ModelChoice",
    "OpPackage": "pipelines.common.program.package:OpPackage",
    "Rule": "pipelines.common.graph.rules:Rule",
    "Sampler": "pipelines.common.engine.sampling.sampler:Sampler",
    "Setup": "pipelines.common.engine.sampling.sampler:Setup",
    "Spec": "pipelines.common.ops:Spec",
    "Tokenizer": "pipelines.common.text.tokenizer:Tokenizer",
    "TokenizerSource": "pipelines.common.checkpoints.tokenizer_source:TokenizerSource",
    "grouped_options": "pipelines.common.cli.grouping:grouped_options",
    "key": "pipelines.common.decoder.numbers:key",
    "neutral_operator": "pipelines.common.ops:neutral_operator",
    "pipeline_command": "pipelines.common.cli.command:pipeline_command",
    "print_json": "pipelines.common.cli.streams:print_json",
    "print_lines": "pipelines.common.cli.streams:print_lines",
    "registry_of": "pipelines.common.cli.context:registry_of",
}

__all__ = [
    "API_VERSION",
    "Candidates",
    "CommandRecord",
    "DecoderConfig",
    "DecoderPipeline",
    "EncoderConfig",
    "EncoderPipeline",
    "HuggingFaceModel",
    "MixtureConfig",
    "ModelChoice",
    "ModelFileError",
    "OpPackage",
    "OpPackageRecord",
    "PipelineError",
    "PipelineRecord",
    "PluginError",
    "Rule",
    "Sampler",
    "SamplerRecord",
    "Setup",
    "Spec",
    "TargetRecord",
    "TaskRecord",
    "Tokenizer",
    "TokenizerError",
    "TokenizerRecord",
    "TokenizerSource",
    "UsageError",
    "WeightFormatRecord",
    "decoder",
    "encoder",
    "grouped_options",
    "hookimpl",
    "key",
    "neutral_operator",
    "nn",
    "ops",
    "patterns",
    "pipeline_command",
    "print_json",
    "print_lines",
    "registry_of",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__} has no {name}; it has {', '.join(__all__)}")
    module, _, attribute = _LAZY[name].partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def decoder(
    name: str,
    summary: str,
    *,
    architectures: tuple[str, ...],
    network: str,
    ignored: tuple[str, ...] = (),
    bundled: Path | None = None,
    translations: tuple[Translation, ...] = (),
) -> PipelineRecord:
    """The record of a pipeline for a family of decoders.

    Args:
        name: Its name, which becomes a command.
        summary: One line for lists and help.
        architectures: What model files call the architectures that it runs.
        network: ``"package.module:function"``: the function makes the network, a module of
            `pipelines.plugin.nn`, of the decoder's dimensions. Its parameter is annotated with
            their dataclass: `DecoderConfig`, or one of the family's own that adds fields with
            `key`.
        ignored: Metadata keys, without the architecture, that change nothing and are not told of.
        bundled: The model file that runs when the user names none.
        translations: How other formats than GGUF say the same, as `HuggingFaceModel`.
    """

    def load() -> DecoderPipeline:
        from pipelines.common.models.pipeline import DecoderPipeline

        return DecoderPipeline(name, architectures, network, ignored, bundled)

    return PipelineRecord(name, summary, load, architectures, translations=translations)


def encoder(
    name: str,
    summary: str,
    *,
    architectures: tuple[str, ...],
    network: str,
    ignored: tuple[str, ...] = (),
    bundled: Path | None = None,
    translations: tuple[Translation, ...] = (),
) -> PipelineRecord:
    """The record of a pipeline for a family of encoders, which make vectors of texts.

    Args:
        name: See `decoder`, as for the others.
        summary: Likewise.
        architectures: Likewise.
        network: ``"package.module:function"``: the function makes the network of an
            `EncoderConfig`, or of one of the family's own that adds fields with `key`.
        ignored: Likewise.
        bundled: Likewise.
        translations: Likewise.
    """

    def load() -> EncoderPipeline:
        from pipelines.common.models.encoder import EncoderPipeline

        return EncoderPipeline(name, architectures, network, ignored, bundled)

    return PipelineRecord(
        name, summary, load, architectures, task="embed", translations=translations
    )
