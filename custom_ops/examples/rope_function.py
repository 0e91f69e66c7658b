"""Replaces `RoPE` by an ONNX function: an op package in one file, which needs no compiler."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Emitter, Rule
from pipelines.common.program.package import OpPackage


@functools.cache
def _rotate() -> Any:
    """The function; made when it is used, because onnxscript takes long to import."""
    from onnxscript import opset20 as op
    from onnxscript import script, values

    @script(values.Opset("example.rope_function", 1), default_opset=op)
    def Rotate(x, past, cos, sin, pairs: Sequence[int], angles: Sequence[int], axis: int):  # noqa: N802
        # `pairs` is the shape of x in which the elements of a pair lie along `axis`, and `angles`
        # that of the tables' rows beside it.
        steps = op.Range(0, op.Squeeze(op.Shape(x, start=1, end=2)), 1)
        positions = op.Unsqueeze(op.Cast(past, to=7), [1]) + steps
        c = op.Reshape(op.Gather(cos, positions), op.Constant(value_ints=angles))
        s = op.Reshape(op.Gather(sin, positions), op.Constant(value_ints=angles))
        paired = op.Reshape(x, op.Constant(value_ints=pairs))
        real, imaginary = op.Split(paired, axis=axis, num_outputs=2)
        rotated = op.Concat(real * c - imaginary * s, real * s + imaginary * c, axis=axis)
        return op.Reshape(rotated, op.Shape(x))

    return Rotate


def _emit(
    op: Emitter, x: Any, past: Any, cos: Any, sin: Any, head_dim: Any, interleaved: Any
) -> Any:
    half = head_dim.as_int() // 2
    if interleaved.as_int():
        form = {"pairs": [0, 0, -1, half, 2], "angles": [0, 0, 1, half, 1], "axis": 4}
    else:
        form = {"pairs": [0, 0, -1, 2, half], "angles": [0, 0, 1, 1, half], "axis": 3}
    return op.call(_rotate(), x, past, cos, sin, **form)


PACKAGE = OpPackage(
    summary="RoPE as a function of standard ONNX operators.",
    rules={"cpu": (Rule("Rotate", patterns.rope, _emit),)},
)
