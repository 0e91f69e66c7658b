"""The metadata of an encoder that nobody has trained: tiny, unless other sizes are asked for."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any, Final

from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.decoder.numbers import keys
from pipelines.common.decoder.read import EMBEDDING
from pipelines.common.decoder.tiny import chosen_sizes
from pipelines.common.encoder.config import EncoderConfig
from pipelines.common.errors import ParameterError
from pipelines.common.text.word_pieces import FIRST, LAST, UNKNOWN

_START: Final = "\N{LOWER ONE EIGHTH BLOCK}"
"""What GGUF files have before pieces that begin a word."""

_LETTERS: Final = string.ascii_lowercase + string.digits
_PIECES: Final = (
    *("[PAD]", UNKNOWN, FIRST, LAST),
    *(f"{_START}{letter}" for letter in _LETTERS + string.punctuation),
    *_LETTERS,  # within a word
)
"""What any text in ASCII can be spelled in, as GGUF files write it."""

SIZES: Final[Mapping[str, Any]] = {
    "vocabulary": len(_PIECES),
    "context_length": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "layers": 2,
    "heads": 4,
    "norm_epsilon": 1e-5,
}
"""What a random encoder is like where nothing else is asked for."""


def tiny_encoder(
    architecture: str, kind: type[EncoderConfig], wanted: RandomWeights
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Pairs that `encoder_config` reads, with a vocabulary; and shapes that it looks at.

    Args:
        architecture: Prefix of the keys.
        kind: The dataclass of the family's numbers.
        wanted: What is asked for beside the usual sizes.

    Raises:
        ParameterError: A name is none that the family has, or its value is not of its type.
    """
    sizes = chosen_sizes(kind, wanted.config, SIZES, {})
    if sizes["vocabulary"] < len(_PIECES):
        raise ParameterError("vocabulary", sizes["vocabulary"], f"{len(_PIECES)} or more")
    own = keys(kind)
    unused = [f"[unused{number}]" for number in range(sizes["vocabulary"] - len(_PIECES))]
    metadata = {
        "general.architecture": architecture,
        "general.type": "model",
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [*_PIECES, *unused],
        **{f"{architecture}.{own[name].name}": sizes[name] for name in sizes if name in own},
        **wanted.metadata,
    }
    width = (sizes["hidden_size"],)
    shapes = {f"blk.{layer}": width for layer in range(sizes["layers"])}
    return metadata, {EMBEDDING: (sizes["vocabulary"], *width), **shapes}
