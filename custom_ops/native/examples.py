"""What `ops check` tries the fusions on: the examples of the shared patterns, put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.graph import patterns
from pipelines.common.op_check.examples import EXAMPLES

Example = dict[str, Any]
EPSILON = 1e-5


def _normal(generator: np.random.Generator, *shape: int, scale: float = 1) -> NDArray[np.float32]:
    return generator.normal(0, scale, shape).astype(np.float32)


def _norm(generator: np.random.Generator, width: int) -> NDArray[np.float32]:
    """Weights of a norm: about 1, as in real models."""
    return generator.uniform(0.5, 1.5, width).astype(np.float32)


def norm_linear(generator: np.random.Generator) -> Iterator[Example]:
    """`RMSNorm` before a product."""
    for example in EXAMPLES[patterns.linear](generator):
        norm = _norm(generator, example["x"].shape[-1])
        yield {**example, "norm": norm, "epsilon": EPSILON}


def linear_add(generator: np.random.Generator) -> Iterator[Example]:
    """A product and what it is added to."""
    for example in EXAMPLES[patterns.linear](generator):
        shape = (*example["x"].shape[:-1], len(example["weight"]))
        yield {**example, "residual": _normal(generator, *shape)}


def gated(generator: np.random.Generator) -> Iterator[Example]:
    """Two products of one value."""
    for example in EXAMPLES[patterns.linear](generator):
        gate = example["weight"]
        yield {"x": example["x"], "gate": gate, "up": _normal(generator, *gate.shape, scale=0.1)}


def norm_gated(generator: np.random.Generator) -> Iterator[Example]:
    """`RMSNorm` before two products."""
    for example in gated(generator):
        norm = _norm(generator, example["x"].shape[-1])
        yield {**example, "norm": norm, "epsilon": EPSILON}


def attention(generator: np.random.Generator) -> Iterator[Example]:
    """`Attention`, also with values of another width than keys."""
    return _also_narrowed(EXAMPLES[patterns.attention](generator))


def rope_attention(generator: np.random.Generator) -> Iterator[Example]:
    """The same with rotation before it."""
    return _also_narrowed(EXAMPLES[patterns.rope_attention](generator))


def norm_rope_attention(generator: np.random.Generator) -> Iterator[Example]:
    """Everything before the output matrix of an attention layer."""
    return _projected(rope_attention(generator), generator)


def _also_narrowed(examples: Iterable[Mapping[str, Any]]) -> Iterator[Example]:
    """Examples, and those of plain attention in one size once more with narrower values."""
    narrowed = []
    for example in examples:
        yield {**example}
        if example["head_dim"] == 64 and example.keys().isdisjoint(("window", "cap", "sinks")):
            kv_heads, width = example["past_value"].shape[1], 40
            narrower = {
                "value": np.ascontiguousarray(example["value"][..., : kv_heads * width]),
                "past_value": np.ascontiguousarray(example["past_value"][..., :width]),
                "value_dim": width,
            }
            narrowed.append({**example, **narrower})
    yield from narrowed


def _projected(
    examples: Iterable[Mapping[str, Any]], generator: np.random.Generator
) -> Iterator[Example]:
    width = 256
    weights: dict[tuple[int, ...], Example] = {}
    for example in examples:
        rows = {name: example[name].shape[-1] for name in ("query", "key", "value")}
        # The calls that go on with each other's states are those of one layer.
        layer = weights.setdefault(
            tuple(rows.values()),
            {
                **{
                    name: _normal(generator, n, width, scale=width**-0.5)
                    for name, n in rows.items()
                },
                "norm": _norm(generator, width),
                "epsilon": EPSILON,
            },
        )
        x = _normal(generator, *example["query"].shape[:2], width)
        yield {**example, **layer, "x": x}
