"""What stands in the place of tensors while a network is written down as a graph.

A network's `forward` runs on PyTorch's tensors and, with the same code, on these values:
calculating with them, calling a neutral operator or one of the methods below, which are called as
those of `torch.Tensor` are, notes a node. Neither PyTorch nor ONNX is needed for that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partialmethod
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

Size: TypeAlias = int | str
"""A dimension; a name stands for one that varies."""


@dataclass(frozen=True)
class Spec:
    """What is known of a tensor before there is one.

    Attributes:
        shape: Its dimensions.
        dtype: Its element type, as NumPy spells it.
    """

    shape: tuple[Size, ...]
    dtype: str = "float32"

    def with_shape(self, *shape: Size) -> Spec:
        """The same with another shape."""
        return replace(self, shape=shape)


@dataclass(frozen=True, eq=False)
class Node:
    """An operator of the graph.

    Attributes:
        operator: Its name.
        domain: Of the operator; empty for ONNX's own.
        inputs: What it reads; None for one that is left out.
        attributes: Numbers, lists of numbers, texts and arrays, by name.
        outputs: What it makes.
    """

    operator: str
    domain: str
    inputs: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    outputs: tuple[Value, ...]


class Recording:
    """A graph that is being written down.

    Attributes:
        nodes: Its operators, in an order in which they can run.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def value(self, spec: Spec) -> Value:
        """One that no node makes."""
        return Value(self, spec)

    def constant(self, array: Any, dtype: str) -> Value:
        """Numbers that are known."""
        content = np.asarray(array).astype(dtype)
        spec = Spec(content.shape, dtype)
        (value,) = self.emit("Constant", (), {"value": content}, (spec,))
        return value

    def emit(
        self,
        operator: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any],
        outputs: Sequence[Spec],
        *,
        domain: str = "",
    ) -> tuple[Value, ...]:
        """Notes a node; returns what it makes."""
        made = tuple(Value(self, spec) for spec in outputs)
        self.nodes.append(Node(operator, domain, tuple(inputs), dict(attributes), made))
        return made


class Value:
    """A tensor of a graph that is being written down.

    What it can do is a part of what a `torch.Tensor` can, and means the same. PyTorch's functions
    of the same names take it as well.
    """

    __array_ufunc__ = None  # a NumPy array before an operator leaves it to this class

    def __init__(self, recording: Recording, spec: Spec) -> None:
        self.recording = recording
        self.spec = spec

    @property
    def shape(self) -> tuple[Size, ...]:
        """Its dimensions."""
        return self.spec.shape

    def _operator(self, operator: str, other: Any) -> Value:
        return self._elementwise(operator, self, other)

    def _reflected(self, operator: str, other: Any) -> Value:
        return self._elementwise(operator, other, self)

    __add__ = add = partialmethod(_operator, "Add")
    __radd__ = partialmethod(_reflected, "Add")
    __sub__ = sub = partialmethod(_operator, "Sub")
    __rsub__ = partialmethod(_reflected, "Sub")
    __mul__ = mul = partialmethod(_operator, "Mul")
    __rmul__ = partialmethod(_reflected, "Mul")
    __truediv__ = div = partialmethod(_operator, "Div")
    __rtruediv__ = partialmethod(_reflected, "Div")

    def _unary(self, operator: str) -> Value:
        if operator != "Neg":
            self._require_fractions(operator)
        return self._emit(operator, (self,), self.spec)

    __neg__ = neg = partialmethod(_unary, "Neg")
    exp = partialmethod(_unary, "Exp")
    relu = partialmethod(_unary, "Relu")
    sigmoid = partialmethod(_unary, "Sigmoid")
    sqrt = partialmethod(_unary, "Sqrt")
    tanh = partialmethod(_unary, "Tanh")

    def square(self) -> Value:
        """Its square."""
        return self._elementwise("Mul", self, self)

    def rsqrt(self) -> Value:
        """The reciprocal of its square root."""
        return self._elementwise("Div", 1.0, self.sqrt())

    def mean(self, dim: int, *, keepdim: bool = False) -> Value:
        """The mean over a dimension."""
        self._require_fractions("ReduceMean")
        axis = self._axis(dim)
        rest = [1] if keepdim else []
        shape = (*self.shape[:axis], *rest, *self.shape[axis + 1 :])
        axes = self.recording.constant([axis], "int64")
        spec = self.spec.with_shape(*shape)
        return self._emit("ReduceMean", (self, axes), spec, keepdims=int(keepdim))

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Value:
        """Takes a dimension apart; one of the sizes may be -1."""
        axis = self._axis(dim)
        size, given = self._fixed(axis), [size for size in sizes if size != -1]
        known, left_out = math.prod(given), len(sizes) - len(given)
        if (
            min(given, default=1) < 1
            or left_out > 1
            or size % known
            or (not left_out and size != known)
        ):
            raise ValueError(f"a dimension of {size} cannot be taken apart into {[*sizes]}")
        parts = [size // known if part == -1 else part for part in sizes]
        return self._reshape((*self.shape[:axis], *parts, *self.shape[axis + 1 :]))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Value:
        """Puts dimensions together."""
        first, last = self._axis(start_dim), self._axis(end_dim)
        if first > last:
            raise ValueError(f"dimension {first} comes after {last}; expected the first one first")
        size = math.prod(self._fixed(axis) for axis in range(first, last + 1))
        return self._reshape((*self.shape[:first], size, *self.shape[last + 1 :]))

    def split(self, split_size_or_sections: int | Sequence[int], dim: int = 0) -> list[Value]:
        """Cuts a dimension into parts of one size, or of several."""
        axis = self._axis(dim)
        size, sections = self._fixed(axis), split_size_or_sections
        if isinstance(sections, int):
            if sections < 1:
                raise ValueError(f"a dimension cannot be cut into parts of {sections}")
            sections = [min(sections, size - at) for at in range(0, size, sections)]
        if sum(sections) != size or min(sections, default=0) < 0:
            raise ValueError(f"a dimension of {size} cannot be cut into {[*sections]}")
        ends = [*accumulate(sections)]
        return [
            self._slice(axis, end - part, end) for part, end in zip(sections, ends, strict=True)
        ]

    def chunk(self, chunks: int, dim: int = 0) -> list[Value]:
        """Cuts a dimension into so many parts."""
        size = self._fixed(self._axis(dim))
        if chunks < 1:
            raise ValueError(f"a dimension cannot be cut into {chunks} parts")
        return self.split(-(-size // chunks), dim)

    def __getitem__(self, key: Any) -> Value:
        """A part of the last dimension: ``x[..., first:last]``."""
        if not (
            isinstance(key, tuple) and len(key) == 2 and key[0] is ... and isinstance(key[1], slice)
        ):
            raise TypeError(f"a graph has no {key!r} of a value; expected x[..., first:last]")
        axis = len(self.shape) - 1
        first, last, step = key[1].indices(self._fixed(axis))
        if step != 1:
            raise TypeError(f"a graph takes no steps of {step}; expected x[..., first:last]")
        return self._slice(axis, first, max(first, last))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a value of a graph has no {name}; it has {', '.join(sorted(_methods()))}, and the"
            " rest is operators: those of pipelines.plugin.ops, or of an op package"
        )

    @classmethod
    def __torch_function__(
        cls, function: Any, _types: Any, arguments: Any, keywords: Any = None
    ) -> Any:
        """Lets PyTorch's functions call the method of their name."""
        name = function.__name__
        method = getattr(cls, name, None)
        if method is None:
            raise TypeError(
                f"a network that becomes a graph cannot call torch's {name}; expected one of"
                f" {', '.join(sorted(_methods()))}, or an operator of an op package"
            )
        if arguments and not isinstance(arguments[0], cls):  # a tensor before an operator
            value = next(each for each in arguments if isinstance(each, cls))
            arguments = (value._as_value(arguments[0]), *arguments[1:])
        return method(*arguments, **(keywords or {}))

    def _elementwise(self, operator: str, *operands: Any) -> Value:
        values = [self._as_value(operand) for operand in operands]
        kinds = sorted({value.spec.dtype for value in values})
        if len(kinds) > 1:
            raise TypeError(f"values of {' and '.join(kinds)} do not go together")
        if operator == "Div":
            self._require_fractions(operator)
        shape = _broadcast(*(value.shape for value in values))
        return self._emit(operator, values, self.spec.with_shape(*shape))

    def _as_value(self, operand: Any) -> Value:
        """An operand, which may be a number, or numbers, that the network has."""
        if isinstance(operand, Value):
            return operand
        if np.asarray(operand).dtype.kind == "f":
            self._require_fractions(f"{operand!r}")
        return self.recording.constant(operand, self.spec.dtype)

    def _require_fractions(self, what: str) -> None:
        """Integers are not made floats on the way, as torch does."""
        if np.dtype(self.spec.dtype).kind in "iu":
            raise TypeError(f"{what} needs a value of floats; this one is {self.spec.dtype}")

    def _emit(
        self, operator: str, inputs: Sequence[Value | None], spec: Spec, **attributes: Any
    ) -> Value:
        (value,) = self.recording.emit(operator, inputs, attributes, (spec,))
        return value

    def _reshape(self, shape: tuple[Size, ...]) -> Value:
        """Another shape; what varies has to stay where it is."""
        varies = [axis for axis, size in enumerate(shape) if isinstance(size, str)]
        if any(self.shape[axis : axis + 1] != (shape[axis],) for axis in varies):
            raise ValueError(f"dimensions that vary cannot move: {self.shape} to {shape}")
        sizes = [0 if isinstance(size, str) else size for size in shape]
        wanted = self.recording.constant(sizes, "int64")
        return self._emit("Reshape", (self, wanted), self.spec.with_shape(*shape))

    def _slice(self, axis: int, first: int, last: int) -> Value:
        places = [self.recording.constant([place], "int64") for place in (first, last, axis)]
        shape = (*self.shape[:axis], last - first, *self.shape[axis + 1 :])
        return self._emit("Slice", (self, *places), self.spec.with_shape(*shape))

    def _axis(self, dim: int) -> int:
        return range(len(self.shape))[dim]

    def _fixed(self, axis: int) -> int:
        size = self.shape[axis]
        if isinstance(size, str):
            raise TypeError(f"dimension {axis} of {self.shape} varies; expected a fixed one")
        return size


def _methods() -> list[str]:
    names = (name for name in vars(Value) if not name.startswith("_"))
    return [name for name in names if callable(getattr(Value, name))]


def _broadcast(*shapes: tuple[Size, ...]) -> tuple[Size, ...]:
    """The shape of what is made of two element by element, see NumPy's rules."""
    rank = max(map(len, shapes))
    result: list[Size] = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        others = {size for size in sizes if size != 1} or {1}
        if len(others) > 1:
            raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not go together")
        result.append(others.pop())
    return tuple(result)
