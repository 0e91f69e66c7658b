"""The weight table that GGUF's decoder architectures have in common.

Names: https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py
"""

from __future__ import annotations

from collections.abc import Collection

from pipelines.common.decoder.config import EMBEDDING, DecoderConfig
from pipelines.common.weights.table import Kind, Weight


def decoder_weights(config: DecoderConfig, tensors: Collection[str]) -> list[Weight]:
    """Where each parameter of `pipelines.common.nn.decoder.Decoder` and Llama's blocks stands.

    Args:
        config: The decoder's dimensions.
        tensors: Names in the file; without ``output.weight`` the output matrix is the embedding.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    block: tuple[tuple[str, str, tuple[int, ...], Kind], ...] = (
        ("attention_norm", "attn_norm", (hidden,), "vector"),
        ("attention.query", "attn_q", (queries, hidden), "linear"),
        ("attention.key", "attn_k", (keys, hidden), "linear"),
        ("attention.value", "attn_v", (keys, hidden), "linear"),
        ("attention.output", "attn_output", (hidden, queries), "linear"),
        ("feed_forward_norm", "ffn_norm", (hidden,), "vector"),
        ("feed_forward.gate", "ffn_gate", (inner, hidden), "linear"),
        ("feed_forward.up", "ffn_up", (inner, hidden), "linear"),
        ("feed_forward.down", "ffn_down", (hidden, inner), "linear"),
    )
    head = "output.weight" if "output.weight" in tensors else EMBEDDING
    return [
        Weight("embedding.weight", EMBEDDING, (config.vocabulary, hidden), "embedding"),
        *(
            Weight(f"layers.{layer}.{module}.weight", f"blk.{layer}.{tensor}.weight", shape, kind)
            for layer in range(config.layers)
            for module, tensor, shape, kind in block
        ),
        Weight("norm.weight", "output_norm.weight", (hidden,), "vector"),
        Weight("head.weight", head, (config.vocabulary, hidden), "head"),
    ]
