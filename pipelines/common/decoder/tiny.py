"""The metadata of a decoder that nobody has trained: tiny, unless other sizes are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, get_type_hints

from pipelines.common.checkpoints.gguf.byte_level import SMALLEST, byte_vocabulary
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.numbers import Key, keys
from pipelines.common.decoder.read import EMBEDDING
from pipelines.common.errors import ParameterError
from pipelines.common.text.bounds import MAX_TOKENS

SIZES: Final[Mapping[str, Any]] = {
    "vocabulary": SMALLEST,
    "context_length": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "norm_epsilon": 1e-5,
    "rope_base": 10000.0,
    "tied": False,
    "biases": (),
}
"""What a random decoder is like where nothing else is asked for."""

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "vocabulary": ("vocab_size",),
    "context_length": ("context_length",),
    "hidden_size": ("embedding_length",),
    "intermediate_size": ("feed_forward_length",),
    "layers": ("block_count",),
    "heads": ("attention.head_count",),
    "kv_heads": ("attention.head_count_kv",),
    "head_dim": ("attention.key_length", "rope.dimension_count"),
    "value_dim": ("attention.value_length",),
    "norm_epsilon": ("attention.layer_norm_rms_epsilon",),
    "rope_base": ("rope.freq_base",),
}
"""The keys that `read` finds each number under."""

_LARGEST: Final[Mapping[str, int]] = {"layers": 4096, "vocabulary": MAX_TOKENS}
"""Of what is written down before anybody has looked whether it makes sense."""

_WIDTH: Final = 32
"""What is called a length is the width of something, and widths are whole blocks."""

_TENSORS_A_BLOCK: Final = 16
"""More than `read` expects of a block at the least."""


def tiny_metadata(
    architecture: str, kind: type[DecoderConfig], wanted: RandomWeights
) -> dict[str, Any]:
    """Pairs that `decoder_config` reads, and a byte-level vocabulary.

    Args:
        architecture: Prefix of the keys.
        kind: The dataclass of the family's numbers. Those without a default are some that are
            within their bounds.
        wanted: What is asked for beside the usual sizes.

    Raises:
        ParameterError: A name is none that the family has, or its value is not of its type.
    """
    sizes = tiny_sizes(kind, wanted.config)
    own = keys(kind)
    pairs: dict[str, Any] = {"general.architecture": architecture, "general.type": "model"}
    for name, value in sizes.items():
        for key in (own[name].name,) if name in own else _KEYS.get(name, ()):
            pairs[f"{architecture}.{key}"] = value
    pairs |= {**byte_vocabulary(sizes["vocabulary"]), **wanted.metadata}
    return {key: value for key, value in pairs.items() if value is not None}


def tiny_sizes(kind: type[DecoderConfig], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """All numbers of a random decoder that are not as the family has them by default.

    Args:
        kind: The dataclass of the family's numbers.
        wanted: Those that are asked for, by field.

    Raises:
        ParameterError: See `tiny_metadata`.
    """
    besides = {"rope_base": float, "head_dim": int, "value_dim": int}
    sizes = chosen_sizes(kind, wanted, SIZES, besides)
    sizes.setdefault("head_dim", max(1, sizes["hidden_size"] // max(1, sizes["heads"])))
    sizes.setdefault("value_dim", sizes["head_dim"])
    return sizes


def chosen_sizes(
    kind: type[Any],
    wanted: Mapping[str, Any],
    usual: Mapping[str, Any],
    besides: Mapping[str, type[Any]],
) -> dict[str, Any]:
    """The numbers that are asked for, those that are usual, and some for those without a default.

    Args:
        kind: The dataclass of a family's numbers.
        wanted: Those that are asked for, by field.
        usual: Those that are there anyway.
        besides: Types of others that can be asked for.

    Raises:
        ParameterError: See `tiny_metadata`.
    """
    types, own = {**besides, **get_type_hints(kind)}, keys(kind)
    known = {**dict.fromkeys(usual), **besides, **own}
    for name, value in wanted.items():
        if name not in known:
            raise ParameterError(name, value, f"one of the numbers {', '.join(known)}")
        if not _fits(value, types[name]):
            raise ParameterError(name, value, _described(types[name]))
        if name in _LARGEST and value > _LARGEST[name]:
            raise ParameterError(name, value, f"{_LARGEST[name]} or less")
    sizes = {**usual, **wanted}
    for field in dataclasses.fields(kind):
        if field.name in own and field.name not in sizes and field.default is dataclasses.MISSING:
            sizes[field.name] = _some(types[field.name], own[field.name], sizes["layers"])
    return sizes


def outline(sizes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of as many tensors as it takes to read a config, before there is a network.

    Args:
        sizes: See `tiny_sizes`.
    """
    width, vocabulary = sizes["hidden_size"], sizes["vocabulary"]
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (vocabulary, width)}
    if not sizes["tied"]:
        shapes["output.weight"] = (vocabulary, width)
    shapes |= {f"blk.0.{name}.bias": (width,) for name in sizes["biases"]}
    return shapes | {
        f"blk.{layer}.{number}": (width,)
        for layer in range(sizes["layers"])
        for number in range(_TENSORS_A_BLOCK)
    }


def _some(kind: Any, key: Key, layers: int) -> Any:
    """A number within the bounds of a key."""
    if kind == tuple[int, ...]:
        return (_some(int, key, layers),) * layers
    if kind == tuple[float, ...]:
        return (_some(float, key, layers),) * layers
    if kind in (int, float):
        usual = 1.0 if kind is float else _WIDTH if key.name.endswith("_length") else 2
        return kind(min(max(usual, key.least), key.most))
    return kind()


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (int, bool, str):
        return type(value) is kind
    of = kind.__args__[0]  # a tuple of any length
    return isinstance(value, tuple) and all(_fits(element, of) for element in value)


def _described(kind: Any) -> str:
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    return words.get(kind) or f"a tuple of {kind.__args__[0].__name__}"
