"""Qwen 3 as a drop-in plugin: what it takes to bring another decoder.

This file is imported at every start of the driver, so everything heavy is imported in `load`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl

if TYPE_CHECKING:
    from pipelines.common.checkpoints.table import Weight
    from pipelines.common.decoder.config import DecoderConfig
    from pipelines.common.models.pipeline import DecoderPipeline


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `qwen3`."""
    return [PipelineRecord("qwen3", "Qwen 3 (dense) from GGUF files.", load, ("qwen3",))]


def load() -> DecoderPipeline:
    """Ties together what the file calls the architecture, the network and the weight table."""
    from pipelines.common.models.pipeline import DecoderPipeline

    return DecoderPipeline(
        name="qwen3",
        architecture="qwen3",
        network=f"{__name__}.model:build",
        weights=weights,
    )


def weights(config: DecoderConfig, tensors: Collection[str]) -> list[Weight]:
    """Where each parameter of `model.py` stands: Llama's table and two norms a layer."""
    from pipelines.common.checkpoints.table import Weight
    from pipelines.common.decoder.weights import decoder_weights

    return [
        *decoder_weights(config, tensors),
        *(
            Weight(
                f"layers.{layer}.attention.{module}.weight",
                f"blk.{layer}.{tensor}.weight",
                (config.head_dim,),
                "vector",
            )
            for layer in range(config.layers)
            for module, tensor in (("query_norm", "attn_q_norm"), ("key_norm", "attn_k_norm"))
        ),
    ]
