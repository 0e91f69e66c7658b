"""A plugin whose network uses parameters in standard operators; see `model.py`."""

from __future__ import annotations

from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    return [PipelineRecord("shifted", "Llama with shifted norms.", load, ("shifted",))]


def load():
    from pipelines.common.decoder.weights import decoder_weights
    from pipelines.common.models.pipeline import DecoderPipeline

    return DecoderPipeline(
        name="shifted",
        architecture="shifted",
        network=f"{__name__}.model:build",
        weights=decoder_weights,
    )
