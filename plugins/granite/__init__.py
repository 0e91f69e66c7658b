"""Granite 3 (dense)."""

from __future__ import annotations

from pipelines.plugin import HuggingFaceModel, PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `granite`."""
    return [
        decoder(
            "granite",
            "Granite 3 (dense).",
            architectures=("granite",),
            network=f"{__name__}.model:build",
            translations=(
                HuggingFaceModel(
                    "granite",
                    "granite",
                    keys={
                        "attention_multiplier": "attention.scale",
                        "embedding_multiplier": "embedding_scale",
                        "logits_scaling": "logit_scale",
                        "residual_multiplier": "residual_scale",
                    },
                    defaults={"attention_multiplier": 1.0},
                ),
            ),
        )
    ]
