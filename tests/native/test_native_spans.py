"""Attention over keys of several spans: one order of sums, however it is cut up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from native_nodes import Node, attention
from numpy.typing import NDArray

from pipelines.common import ops

TOKENS, PAST = 4, (1022, 2046, 2500, 3)
"""Two sequences whose tokens are the last of a span and the first of the next one; the last token
of the last sequence is padding."""

NODES = {
    f"{name}, window {window}, sinks {sinks}": attention(
        name,
        head_dim=16,
        value_dim=24,
        tokens=TOKENS,
        past=PAST,
        capacity=2512,
        window=window,
        sinks=sinks,
        cap=3.0 * sinks,
    )
    for name in ("RotaryAttention", "AttentionFloat32")
    for window, sinks in ((0, False), (1500, True), (2, False))
}


@pytest.fixture(params=NODES)
def node(request: pytest.FixtureRequest) -> Node:
    return NODES[request.param]


def parts(node: Node, tokens: slice, rows: slice = slice(None)) -> Node:
    """A node for some tokens of some sequences, on the state as `node` has it."""
    inputs: dict[str, NDArray[Any] | None] = {}
    for name, array in node.given.items():
        inputs[name] = array if name in ("cos", "sin", "sinks") else array[rows]
    for name in ("query", "key", "value"):
        inputs[name] = node.given[name][rows, tokens]
    past = node.given["past"][rows] + np.int32(tokens.start)
    inputs["past"] = past
    inputs["total"] = np.minimum(past + (tokens.stop - tokens.start), node.given["total"][rows])
    return replace(node, inputs=inputs)


def test_tokens_one_by_one(node: Node, native_library: Path) -> None:
    """A step is shared out by spans, a prompt goes through them in turn."""
    expected, *_ = node.run(native_library)
    following = node
    for token in range(TOKENS):
        step = parts(following, slice(token, token + 1))
        mixed, keys, values = step.run(native_library, threads=2)
        following = replace(node, inputs={**node.inputs, "past_key": keys, "past_value": values})
        real = token < node.given["total"] - node.given["past"]
        np.testing.assert_array_equal(mixed[real, 0], expected[real, token])


def test_neighbours_and_threads(node: Node, native_library: Path) -> None:
    for tokens in (slice(0, TOKENS), slice(0, 1)):
        together = parts(node, tokens).run(native_library, threads=2)[0]
        for row in range(len(PAST)):
            alone = parts(node, tokens, slice(row, row + 1)).run(native_library)[0]
            np.testing.assert_array_equal(alone[0], together[row])


def test_the_reference(node: Node, native_library: Path) -> None:
    mixed, *_ = node.run(native_library)
    given = {name: torch.from_numpy(np.array(x)) for name, x in node.given.items()}
    if "cos" in given:
        for name in ("query", "key"):
            tables = (given["cos"], given["sin"])
            given[name] = ops.rope(given[name], given["past"], *tables, 16, 0)
    groups = given["past_key"].float().unflatten(2, (-1, 16))  # the kernels' order of keys
    keys = groups.flatten(-2).unflatten(-1, (16, 16)).transpose(-1, -2).flatten(2, 3)
    halves = (keys, given["past_value"].float())
    inputs = (given["query"], given["key"], given["value"], *halves, given["past"], given["total"])
    window, cap = node.attributes["window"], node.attributes["cap"]
    options = {"sinks": given.get("sinks"), "window": window, "cap": cap, "value_dim": 24}
    expected, *_ = ops.attention(*inputs, 16, 0.25, **options)
    for row, (start, end) in enumerate(zip(given["past"], given["total"], strict=True)):
        tolerance = {"atol": 2e-3 if node.operator == "RotaryAttention" else 1e-5}
        np.testing.assert_allclose(
            mixed[row, : end - start], expected[row, : end - start], **tolerance
        )
