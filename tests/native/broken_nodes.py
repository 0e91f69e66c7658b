"""Nodes of the native kernels with one thing wrong, and a program that runs them all.

A kernel that trusts what it is handed reads memory that is not there, so they run in a process of
their own: ``broken_nodes.py LIBRARY`` prints a line of JSON for each, before and after.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from native_nodes import Node, attention, embedding, experts, linear

VALID: dict[str, Node] = {
    "product": linear("q4_0"),
    "floats": linear("f16"),
    "norm": linear("q8_0", norm=True, weights=2),
    "residual": linear("q6_k", residual=True),
    "gated": linear("q4_1", gated=1, weights=2, norm=True),
    "rows": embedding("q4_0"),
    "experts": experts("q4_0"),
    "float experts": experts("f16", routing=2),
    "biased experts": experts("q8_0", biased=True, limit=1.0),
    **{
        name: attention(name)
        for name in ("RotaryAttention", "Attention", "RotaryAttentionFloat32", "AttentionFloat32")
    },
}

_INTEGERS = (-(2**63), -1, 2, 5, 2**31, 2**32 + 1, 2**62, 2**63 - 1)


def _with(node: Node, name: str, array: Any) -> Node:
    return replace(node, inputs={**node.inputs, name: array})


def _without(node: Node, name: str) -> Node:
    inputs = {key: array for key, array in node.inputs.items() if key != name}
    constants = [constant for constant in node.constants if constant != name]
    return replace(node, inputs=inputs, constants=constants)


def _inputs(node: Node) -> Iterator[tuple[str, Node]]:
    for name, array in node.given.items():
        yield (
            f"{name} missing",
            replace(_with(node, name, None), constants=[c for c in node.constants if c != name]),
        )
        yield f"{name} dropped", _without(node, name)
        for dtype in (np.float64, np.int8, np.str_):
            yield f"{name} as {dtype.__name__}", _with(node, name, array.astype(dtype))
        if name != "tokens":
            yield f"{name} too short", _with(node, name, array[..., :-1])
            yield f"{name} scalar", _with(node, name, array.reshape(-1)[0:1].reshape(()))
            yield f"{name} empty", _with(node, name, array[..., :0])
        if name in node.constants and node.operator in ("Linear", "Experts"):
            others = [constant for constant in node.constants if constant != name]
            yield f"{name} no constant", replace(node, constants=others)
    yield "one more input", _with(node, "more", np.zeros(3, np.float32))


def _attributes(node: Node) -> Iterator[tuple[str, Node]]:
    for name, value in node.attributes.items():
        others = {key: other for key, other in node.attributes.items() if key != name}
        wrong: list[Any] = ["text", [1, 2]]
        if isinstance(value, float):
            wrong += [float("nan"), float("inf"), float("-inf"), 1]
        else:
            ranges = {
                "window": range(2**31),
                "gated": (1, 2),
                "used": range(1, 5),
                "routing": range(3),
            }
            right = ranges.get(name, (value,))
            wrong += [1.5, *(number for number in _INTEGERS if number not in right)]
        if name in ("epsilon", "limit"):
            wrong.append(-1.0)
        yield f"{name} missing", replace(node, attributes=others)
        for bad in wrong:
            yield f"{name} is {bad}", replace(node, attributes={**others, name: bad})


def _outputs(node: Node) -> Iterator[tuple[str, Node]]:
    yield "one more output", replace(node, outputs=[*node.outputs, "more"])
    if len(node.outputs) > 1:
        yield "an output dropped", replace(node, outputs=node.outputs[:-1])
        for i, name in enumerate(node.outputs):
            outputs = ["" if output == name else output for output in node.outputs]
            yield f"output {i} missing", replace(node, outputs=outputs)


def _values(node: Node) -> Iterator[tuple[str, Node]]:
    if node.operator == "Embedding":
        for token in (-1, 20, 2**32, 2**62, -(2**63)):
            yield f"token {token}", _with(node, "tokens", np.array([[3, token]], np.int64))
    if "past" in node.inputs:
        least, most = -(2**31), 2**31 - 1
        for past, total in (
            *((-1, 1), (least, 2), (3, 2), (0, 4), (30, 33), (0, most), (most, most)),
            *((least, least), (most, least)),
        ):
            wrong = _with(node, "past", np.array([0, past], np.int32))
            yield (
                f"lengths {past} to {total}",
                _with(wrong, "total", np.array([2, total], np.int32)),
            )
    if "cos" in node.inputs:
        tables = {name: node.given[name][:6] for name in ("cos", "sin")}
        yield "short tables", replace(node, inputs={**node.inputs, **tables})
    if "past_key" in node.inputs:
        for name in ("query", "key", "value", "past_key", "past_value"):
            yield f"{name} of one sequence", _with(node, name, node.given[name][:1])
        halves = {name: node.given[name][:, :, :24] for name in ("past_key", "past_value")}
        yield "a capacity of 24", replace(node, inputs={**node.inputs, **halves})


CASES: dict[str, Node] = {
    f"{kind}: {wrong}": broken
    for kind, node in VALID.items()
    for change in (_inputs, _attributes, _outputs, _values)
    for wrong, broken in change(node)
}


def main(library: Path) -> None:
    """Runs all nodes; a line without an error is one that was computed."""
    for name, node in {**VALID, **CASES}.items():
        print(json.dumps({"begins": name}), flush=True)
        try:
            node.run(library)
            error = None
        except Exception as raised:  # noqa: BLE001 - the runtime's errors have no class in common
            error = str(raised)
        print(json.dumps({"ends": name, "error": error}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
