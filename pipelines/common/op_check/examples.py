"""What rules are tried on that look for a shared pattern and have no examples of their own.

Sizes are small and awkward: one row, odd numbers of rows, many rows, matrices whose sides no
kernel's tile divides. An example whose rows are not whole blocks of an encoding is left out for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.graph import patterns
from pipelines.common.ops.experts import ROUTINGS

Bindings = Mapping[str, Any]
Examples = Callable[[np.random.Generator], Iterable[Bindings]]


def _normal(generator: np.random.Generator, *shape: int, scale: float = 1) -> NDArray[np.float32]:
    return generator.normal(0, scale, shape).astype(np.float32)


def _linear(generator: np.random.Generator) -> Iterator[Bindings]:
    for batch, sequence, rows, columns in (
        (1, 1, 48, 256),
        (1, 17, 1, 32),
        (3, 1, 100, 512),
        (1, 3, 19, 96),
        (1, 4, 21, 50),
        (1, 33, 272, 768),
        (2, 65, 33, 1280),
        (1, 257, 64, 256),
    ):
        yield {
            "x": _normal(generator, batch, sequence, columns),
            "weight": _normal(generator, rows, columns, scale=0.1),
        }


def _embedding(generator: np.random.Generator) -> Iterator[Bindings]:
    for batch, sequence, rows, columns in (
        (1, 1, 5, 32),
        (2, 3, 19, 96),
        (1, 5, 7, 50),
        (1, 67, 300, 768),
    ):
        tokens = generator.integers(0, rows, (batch, sequence))
        tokens[0, 0], tokens[-1, -1] = 0, rows - 1
        yield {"tokens": tokens, "weight": _normal(generator, rows, columns)}


def _rms_norm(generator: np.random.Generator) -> Iterator[Bindings]:
    for batch, sequence, width in ((1, 1, 64), (2, 3, 100), (1, 67, 2048)):
        yield {
            "x": _normal(generator, batch, sequence, width, scale=3),
            "weight": _normal(generator, width),
            "epsilon": 1e-5,
        }


def _silu(generator: np.random.Generator) -> Iterator[Bindings]:
    for batch, sequence, width in ((1, 1, 1), (2, 3, 101), (1, 67, 2048)):
        yield {"x": _normal(generator, batch, sequence, width, scale=20)}


def _gelu(generator: np.random.Generator) -> Iterator[Bindings]:
    for tanh in (0, 1):
        yield from ({**example, "tanh": tanh} for example in _silu(generator))


def _layer_norm(generator: np.random.Generator) -> Iterator[Bindings]:
    for example in _rms_norm(generator):
        yield {**example, "bias": _normal(generator, *example["weight"].shape)}


def _select(generator: np.random.Generator) -> Iterator[Bindings]:
    for batch, sequence, width, wanted in ((1, 1, 32, 1), (3, 5, 50, 2), (1, 33, 64, 33)):
        yield {
            "x": _normal(generator, batch, sequence, width),
            "wanted": generator.integers(0, sequence, (batch, wanted)),
        }


def _rotary_tables(positions: int, head_dim: int) -> dict[str, NDArray[np.float32]]:
    frequencies = 500_000.0 ** (-np.arange(0, head_dim, 2) / head_dim)
    angles = np.arange(positions)[:, None] * frequencies
    return {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}


def _rope(generator: np.random.Generator) -> Iterator[Bindings]:
    for interleaved in (0, 1):
        for sequence, heads, head_dim, past in (
            (1, 1, 16, [0]),
            (5, 3, 64, [0, 9]),
            (1, 8, 128, [30, 0, 2]),
        ):
            yield {
                "x": _normal(generator, len(past), sequence, heads * head_dim),
                "past": np.array(past, np.int32),
                **_rotary_tables(48, head_dim),
                "head_dim": head_dim,
                "interleaved": interleaved,
            }


_CALLS = (
    (7, [0], [7]),
    (1, [7], [8]),
    (4, [8], [12]),
    (6, [0, 0, 0], [6, 1, 4]),
    (1, [6, 1, 4], [7, 2, 5]),
    (1, [7, 2, 5], [8, 3, 6]),
    (130, [0], [130]),
    (1, [130], [131]),
)
"""Tokens, tokens before and tokens after, for calls that go on with each other's states: a prompt,
a step and a chunk on top; prompts of different lengths side by side, and steps; a long prompt."""


_VARIANTS: tuple[Bindings, ...] = (
    {},
    {"window": 1},
    {"window": 5},
    {"window": 100},
    {"cap": 2.0},
    {"window": 5, "cap": 1.0},
)


def _attention(generator: np.random.Generator) -> Iterator[Bindings]:
    for variant in _VARIANTS:
        yield from ({**example, **variant} for example in _plain_attention(generator))
    # Whoever looks back further than a window is in another example; and so are sinks.
    for example in _plain_attention(generator):
        heads = example["query"].shape[-1] // example["head_dim"]
        yield {**example, "sinks": _normal(generator, heads, scale=2), "window": 5}


def _plain_attention(generator: np.random.Generator) -> Iterator[Bindings]:
    for heads, kv_heads, head_dim in ((4, 2, 16), (3, 3, 64), (8, 2, 128)):
        for sequence, past, total in _CALLS:
            state = (len(past), kv_heads, 144, head_dim)
            yield {
                "query": _normal(generator, len(past), sequence, heads * head_dim),
                "key": _normal(generator, len(past), sequence, kv_heads * head_dim),
                "value": _normal(generator, len(past), sequence, kv_heads * head_dim),
                "past_key": np.zeros(state, np.float32),
                "past_value": np.zeros(state, np.float32),
                "past": np.array(past, np.int32),
                "total": np.array(total, np.int32),
                "head_dim": head_dim,
                "scale": head_dim**-0.5,
            }


def _rope_attention(generator: np.random.Generator) -> Iterator[Bindings]:
    for interleaved in (0, 1):
        for example in _attention(generator):
            tables = _rotary_tables(144, example["head_dim"])
            yield {**example, **tables, "interleaved": interleaved}


def _self_attention(generator: np.random.Generator) -> Iterator[Bindings]:
    for batch, sequence, heads, head_dim in ((1, 1, 2, 16), (2, 7, 3, 32), (1, 65, 4, 64)):
        shape = (batch, sequence, heads * head_dim)
        yield {
            **{name: _normal(generator, *shape) for name in ("query", "key", "value")},
            "head_dim": head_dim,
            "scale": head_dim**-0.5,
        }


def _experts(generator: np.random.Generator) -> Iterator[Bindings]:
    for batch, sequence, experts, inner, columns in (
        (1, 1, 8, 96, 256),
        (3, 1, 4, 256, 64),
        (1, 5, 3, 50, 38),
        (2, 40, 5, 64, 288),
        (1, 9, 2, 256, 512),
    ):
        stacks = {"gate": (inner, columns), "up": (inner, columns), "down": (columns, inner)}
        layer = {
            "x": _normal(generator, batch, sequence, columns),
            # Whole numbers: some are equal.
            "logits": np.rint(_normal(generator, batch, sequence, experts, scale=2)),
            **{
                name: _normal(generator, experts, *sizes, scale=sizes[1] ** -0.5)
                for name, sizes in stacks.items()
            },
        }
        for i, routing in enumerate(ROUTINGS):
            used = min(i + 1, experts)
            yield {**layer, "used": used, "routing": routing, "normalize": 1, "scale": 2.5}
            yield {**layer, "used": used, "routing": routing, "normalize": 0, "scale": 1.0}
        biases = {
            f"{name}_bias": _normal(generator, experts, rows, scale=0.5)
            for name, (rows, _) in stacks.items()
        }
        numbers = {"used": min(2, experts), "routing": "topk_softmax", "normalize": 0, "scale": 1.0}
        gate = {"alpha": 1.7, "limit": 1.0, "offset": 1.0}
        yield {**layer, **numbers, **biases, **gate}
        yield {**layer, **numbers, **gate}


EXAMPLES: Mapping[Callable[..., Any], Examples] = {
    patterns.linear: _linear,
    patterns.embedding: _embedding,
    patterns.rms_norm: _rms_norm,
    patterns.silu: _silu,
    patterns.gelu: _gelu,
    patterns.layer_norm: _layer_norm,
    patterns.experts: _experts,
    patterns.self_attention: _self_attention,
    patterns.select: _select,
    patterns.rope: _rope,
    patterns.attention: _attention,
    patterns.rope_attention: _rope_attention,
}
"""The examples of each shared pattern."""
