"""Whatever a network calculates with values of a graph, in any order, torch's tensors give too."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from pipelines.common.graph.build import to_model
from pipelines.common.ops.value import Recording, Spec, Value

Draw = Callable[[Any], Any]

UNARY = ("neg", "exp", "tanh", "sigmoid", "square")
BINARY = ("add", "sub", "mul")

WITH_NUMBERS: tuple[Callable[[Any, Any], Any], ...] = (
    lambda x, number: x + number,
    lambda x, number: number + x,
    lambda x, number: x - number,
    lambda x, number: number - x,
    lambda x, number: x * number,
    lambda x, number: number * x,
    lambda x, number: x / (2 + number * number),
    lambda x, number: number / (x.square() + 1),
)
"""What can be done with a number, or with an array that the network has."""


class Chain:
    """One calculation on torch's tensors and on values of a graph, as it grows.

    It is one in float64, where what differs is a mistake and not the order of additions.

    Attributes:
        steps: All that came out so far, on either side.
        generator: Where its numbers are from.
    """

    def __init__(self, batch: int, sequence: int, width: int, seed: int) -> None:
        self.steps: list[tuple[torch.Tensor, Value]] = []
        self.generator = np.random.default_rng(seed)
        self._sizes = {"batch": batch, "sequence": sequence}
        self._recording = Recording()
        self._inputs: dict[str, Value] = {}
        self._fed: dict[str, NDArray[np.float64]] = {}
        for name in ("x", "y"):
            self._fed[name] = self.generator.normal(size=(batch, sequence, width))
            spec = Spec(("batch", "sequence", width), "float64")
            self._inputs[name] = self._recording.value(spec)
            self.steps.append((torch.from_numpy(self._fed[name]), self._inputs[name]))

    def apply(self, function: Callable[..., Any], *places: int) -> None:
        """Adds what a function makes of earlier results."""
        self._add(*(function(*side) for side in self._sides(places)))

    def apply_with(
        self, function: Callable[..., Any], place: int, array: NDArray[np.float64]
    ) -> None:
        """Likewise, with an array: that of a network is bound to torch as a tensor."""
        tensor, value = self.steps[place]
        self._add(function(tensor, torch.from_numpy(array)), function(value, array))

    def check(self) -> None:
        """Holds all results to torch's, and their shapes to what was told of them."""
        results = {f"result.{place}": value for place, (_, value) in enumerate(self.steps)}
        model = ir.to_proto(to_model(self._recording, self._inputs, results))
        onnx.checker.check_model(model)
        computed = ReferenceEvaluator(model).run(None, self._fed)
        for (expected, value), result in zip(self.steps, computed, strict=True):
            told = tuple(self._sizes.get(size, size) for size in value.shape)
            assert told == result.shape == tuple(expected.shape)
            assert result.dtype == np.float64
            np.testing.assert_allclose(result, expected.numpy(), rtol=1e-8, atol=1e-8)

    def _sides(self, places: tuple[int, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        tensors, values = zip(*(self.steps[place] for place in places), strict=True)
        return tensors, values

    def _add(self, *made: Any) -> None:
        sides = [[each] if isinstance(each, torch.Tensor | Value) else each for each in made]
        for tensor, value in zip(*sides, strict=True):
            large = tensor.abs().max() > 4  # no chain grows without end
            self.steps.append((tensor.tanh(), value.tanh()) if large else (tensor, value))


def called(draw: Draw, name: str) -> Callable[..., Any]:
    """A method, or PyTorch's function of that name."""
    if draw(st.booleans()):
        return getattr(torch, name)
    return lambda x, *arguments, **keywords: getattr(x, name)(*arguments, **keywords)


def go_together(one: Value, other: Value) -> bool:
    """Whether two can be added, whatever the dimensions that vary are."""
    pairs = zip(reversed(one.shape), reversed(other.shape), strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)


def add_calculation(draw: Draw, chain: Chain, place: int) -> None:
    """Adds a step that leaves dimensions as they are, or spreads them."""
    value = chain.steps[place][1]
    match draw(st.sampled_from(("unary", "root", "binary", "div", "number", "array"))):
        case "unary":
            chain.apply(called(draw, draw(st.sampled_from(UNARY))), place)
        case "root":
            root = called(draw, draw(st.sampled_from(("sqrt", "rsqrt"))))
            chain.apply(lambda x: root(x.square() + 0.5), place)
        case "binary":
            others = [i for i, (_, each) in enumerate(chain.steps) if go_together(value, each)]
            calculate = called(draw, draw(st.sampled_from(BINARY)))
            chain.apply(calculate, place, draw(st.sampled_from(others)))
        case "div":
            divide = called(draw, "div")
            chain.apply(lambda x: divide(x, x.square() + 1), place)
        case "number":
            number = draw(st.integers(-3, 3) | st.floats(-3, 3))
            calculate = draw(st.sampled_from(WITH_NUMBERS))
            chain.apply(lambda x: calculate(x, number), place)
        case "array":
            one = [isinstance(size, str) or draw(st.booleans()) for size in value.shape]
            shape = [1 if only else size for only, size in zip(one, value.shape, strict=True)]
            shape = shape[draw(st.integers(0, len(shape))) :]
            if len(shape) == len(value.shape) and draw(st.booleans()):
                shape = [draw(st.integers(1, 2)), *shape]
            array = chain.generator.uniform(-2, 2, size=shape)
            chain.apply_with(draw(st.sampled_from(WITH_NUMBERS)), place, np.asarray(array))


def add_rearrangement(draw: Draw, chain: Chain, place: int) -> None:
    """Adds a step that takes a dimension apart, puts several together, or takes a mean."""
    shape = chain.steps[place][1].shape
    fixed = [axis for axis, size in enumerate(shape) if not isinstance(size, str)]
    kinds = ["mean"] if shape else []
    kinds += ["split", "sections", "chunk"] if fixed else []
    kinds += ["slice"] if len(shape) - 1 in fixed else []
    movable = [a for a in fixed if not any(isinstance(size, str) for size in shape[a:])]
    kinds += ["unflatten", "flatten"] if movable else []
    if not kinds:
        return
    kind = draw(st.sampled_from(kinds))
    axes = {"mean": range(len(shape)), "unflatten": movable, "flatten": movable}.get(kind, fixed)
    axis = len(shape) - 1 if kind == "slice" else draw(st.sampled_from([*axes]))
    size: Any = shape[axis]
    dim = axis - len(shape) if draw(st.booleans()) else axis
    match kind:
        case "mean":
            mean, keepdim = called(draw, "mean"), draw(st.booleans())
            chain.apply(lambda x: mean(x, dim, keepdim=keepdim), place)
        case "unflatten":
            part = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
            sizes = draw(st.sampled_from([(part, size // part), (part, -1), (-1, part)]))
            unflatten = called(draw, "unflatten")
            chain.apply(lambda x: unflatten(x, dim, sizes), place)
        case "flatten":
            last, flatten = draw(st.integers(axis, len(shape) - 1)), called(draw, "flatten")
            chain.apply(lambda x: flatten(x, dim, last), place)
        case "split":
            part, split = draw(st.integers(1, size + 1)), called(draw, "split")
            chain.apply(lambda x: split(x, part, dim), place)
        case "sections":
            cuts = draw(st.lists(st.integers(1, size), max_size=3, unique=True).map(sorted))
            ends = [0, *(cut for cut in cuts if cut < size), size]
            parts = [end - start for start, end in itertools.pairwise(ends)]
            split = called(draw, "split")
            chain.apply(lambda x: split(x, parts, dim), place)
        case "chunk":
            count, chunk = draw(st.integers(1, size + 2)), called(draw, "chunk")
            chain.apply(lambda x: chunk(x, count, dim), place)
        case "slice":
            first = draw(st.integers(0, size - 1))
            last = draw(st.integers(first + 1, size))
            start = draw(st.sampled_from([first, first - size, *([None] if first == 0 else [])]))
            from_the_end = [last - size] if last < size else [None, size + 2]
            stop = draw(st.sampled_from([last, *from_the_end]))
            chain.apply(lambda x: x[..., start:stop], place)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.sampled_from((1, 2, 3, 6, 8, 12)))
def test_any_chain(data: st.DataObject, batch: int, sequence: int, width: int) -> None:
    chain = Chain(batch, sequence, width, data.draw(st.integers(0, 99)))
    for _ in range(data.draw(st.integers(1, 8))):
        add = data.draw(st.sampled_from((add_calculation, add_rearrangement)))
        add(data.draw, chain, data.draw(st.integers(0, len(chain.steps) - 1)))
    chain.check()
