"""The order in which GGUF files have the rows of query and key matrices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pipelines.common.errors import ModelFileError, listed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.common.checkpoints.checkpoint import Checkpoint

INTERLEAVED: Final = frozenset(
    (
        "arcee",
        "arctic",
        "baichuan",
        "bailingmoe",
        "chameleon",
        "chatglm",
        "cohere2",
        "command-r",
        "deci",
        "deepseek",
        "deepseek2",
        "ernie4_5",
        "ernie4_5-moe",
        "granite",
        "granitehybrid",
        "granitemoe",
        "internlm2",
        "llama",
        "llama-embed",
        "llama4",
        "maincoder",
        "minicpm",
        "mistral3",
        "mistral4",
        "neo-bert",
        "olmo",
        "orion",
        "plamo",
        "plm",
        "smollm3",
        "starcoder",
        "xverse",
    )
)
"""Values of ``general.architecture`` whose converters keep, or bring, neighbours into pairs.

Those of all others leave halves, as Hugging Face has them. Source: `llama_model_rope_type` in
https://github.com/ggml-org/llama.cpp/blob/master/src/llama-model.cpp
"""

_ROTATED: Final = re.compile(r"blk\.\d+\.attn_[qk](_norm)?\.(weight|bias)")
_JOINED: Final = re.compile(r"blk\.\d+\.attn_(qkv|[qk]_[ab]|kv_.+)\.(weight|bias)")
"""What holds more than the rows of queries, or of keys."""


def row_orders(checkpoint: Checkpoint) -> Mapping[str, NDArray[np.intp]]:
    """Which rows a GGUF file has where, by the tensors whose rows it has in another order.

    A head's rows that are rotated together stand half of what is rotated apart, or side by side.
    Of a vector, as a bias is, its elements are what is called rows here.

    Raises:
        ModelFileError: A tensor is of a kind whose rows cannot be put into that order.
    """
    import numpy as np

    metadata = checkpoint.metadata
    architecture = metadata.string("general.architecture")
    interleaved = architecture in INTERLEAVED
    if checkpoint.interleaved == interleaved:
        return {}
    if joined := [name for name in checkpoint.tensors if _JOINED.fullmatch(name)]:
        raise ModelFileError(
            f"{checkpoint.path}: the rows of {listed(joined)} are not in the order that GGUF files"
            f" of {architecture} have, and cannot be brought into it; expected queries and keys in"
            " matrices of their own"
        )
    width = metadata.integer(f"{architecture}.attention.key_length", 0)
    if not width:
        heads = metadata.integer(f"{architecture}.attention.head_count")
        width = metadata.integer(f"{architecture}.embedding_length") // max(1, heads)
    rotated = metadata.integer(f"{architecture}.rope.dimension_count", width)
    head = np.arange(width)
    halves = head[:rotated].reshape(2, -1)
    # Reading it by columns puts halves side by side; the inverse takes neighbours apart.
    pairs = halves.T.reshape(-1)
    head[:rotated] = pairs if interleaved else np.argsort(pairs)
    orders = {}
    for name, tensor in checkpoint.tensors.items():
        if _ROTATED.fullmatch(name):
            count = tensor.rows if len(tensor.shape) > 1 else tensor.row_length
            starts = np.arange(0, count, width)
            orders[name] = (starts[:, None] + head).reshape(-1)
    return orders
