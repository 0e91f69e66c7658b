"""The weight table that GGUF's decoder architectures have in common.

Names: https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py
"""

from __future__ import annotations

from collections.abc import Collection

from pipelines.common.checkpoints.table import Kind, Weight
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.read import EMBEDDING, PROJECTIONS


def decoder_weights(config: DecoderConfig, tensors: Collection[str]) -> list[Weight]:
    """Where each parameter of `pipelines.common.nn.decoder.Decoder` and Llama's blocks stands.

    Args:
        config: The decoder's dimensions.
        tensors: Names in the file; without ``output.weight`` the output matrix is the embedding.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes = {
        "attention.query": (queries, hidden),
        "attention.key": (keys, hidden),
        "attention.value": (keys, hidden),
        "attention.output": (hidden, queries),
        "feed_forward.gate": (inner, hidden),
        "feed_forward.up": (inner, hidden),
        "feed_forward.down": (hidden, inner),
    }
    block: list[tuple[str, str, tuple[int, ...], Kind]] = [
        ("attention_norm.weight", "attn_norm.weight", (hidden,), "vector"),
        ("feed_forward_norm.weight", "ffn_norm.weight", (hidden,), "vector"),
    ]
    for module, tensor in PROJECTIONS.items():
        block.append((f"{module}.weight", f"{tensor}.weight", shapes[module], "linear"))
        if module in config.biases:
            block.append((f"{module}.bias", f"{tensor}.bias", shapes[module][:1], "vector"))
    head = "output.weight" if "output.weight" in tensors else EMBEDDING
    return [
        Weight("embedding.weight", EMBEDDING, (config.vocabulary, hidden), "embedding"),
        *(
            Weight(f"layers.{layer}.{parameter}", f"blk.{layer}.{tensor}", shape, kind)
            for layer in range(config.layers)
            for parameter, tensor, shape, kind in block
        ),
        Weight("norm.weight", "output_norm.weight", (hidden,), "vector"),
        Weight("head.weight", head, (config.vocabulary, hidden), "head"),
    ]
