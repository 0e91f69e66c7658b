"""MiniLM and other BERTs that encode texts, as a drop-in plugin."""

from __future__ import annotations

from pipelines.plugin import HuggingFaceModel, PipelineRecord, encoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `minilm`."""
    return [
        encoder(
            "minilm",
            "MiniLM and other BERTs: vectors of texts.",
            architectures=("bert",),
            network=f"{__name__}.model:build",
            translations=(
                HuggingFaceModel(
                    "bert",
                    "bert",
                    expected={"hidden_act": ("gelu",), "type_vocab_size": (2,)},
                    ignored=("pooler.", "bert.pooler.", "cls."),
                    prefix="bert.",
                ),
            ),
        )
    ]
