"""A plugin whose network uses parameters in standard operators; see `model.py`."""

from __future__ import annotations

from pipelines.common.hookspecs import PipelineRecord, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    return [PipelineRecord("shifted", "Llama with shifted norms.", load, ("shifted",))]


def load():
    from pipelines.common.decoder.pipeline import DecoderPipeline
    from pipelines.common.decoder.weights import decoder_weights

    return DecoderPipeline(
        name="shifted",
        architecture="shifted",
        network=f"{__name__}.model:build",
        weights=decoder_weights,
    )
