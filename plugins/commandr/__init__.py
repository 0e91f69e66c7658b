"""Command-R, without the norms of queries and keys that Command-R+ has."""

from __future__ import annotations

from pipelines.plugin import HuggingFaceModel, PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `commandr`."""
    return [
        decoder(
            "commandr",
            "Command-R.",
            architectures=("command-r",),
            network=f"{__name__}.model:build",
            translations=(
                HuggingFaceModel(
                    "cohere",
                    "command-r",
                    keys={"logit_scale": "logit_scale"},
                    expected={"use_qk_norm": (False,)},
                    defaults={
                        "logit_scale": 0.0625,
                        "rope_theta": 5e5,
                        "tie_word_embeddings": True,
                    },
                    interleaved=True,
                ),
            ),
        )
    ]
