"""What a rewrite rule is. Light: targets and op packages import it without torch or ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

PLACEHOLDER = "supplied-by-the-runner"
"""File that a lowered graph says its constants are in; runners put their own in their place."""

KEPT = "pipelines.kept"
"""Domain in which a rule emits a neutral operator that stays as it is, for a kernel of that name;
in the lowered graph it is in the neutral operators' own domain."""

TYPED = "pipelines.typed"
"""Domain in which a rule emits a standard ONNX operator that keeps the types it names; elsewhere
constants and casts to float32 turn to the type of the activations."""

COMPUTED = "computed"
"""Stands among the encodings that a rule takes where the weight of its pattern may also be a value
that the network computes, of one parameter or several, in the type of the activations."""

LAYOUTS = ("stored", "float32", "float16", "bfloat16")
"""Weight layouts that every target has: the bytes of the encoding that a weight runs in, and its
values in one of three types."""


def element_type(name: str) -> np.dtype[Any]:
    """The NumPy type of a name as `LoweredWeight.dtype` has it, bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


class Emitter(Protocol):
    """What a rule's `emit` makes nodes and weights with.

    ``emitter.Add(x, y)`` adds a standard ONNX node and returns its output; ``_domain=`` names
    another operator set, ``_outputs=n`` asks for n outputs, other keywords are attributes.
    """

    def __getattr__(self, operator: str) -> Callable[..., Any]: ...

    def weight(
        self,
        value: Any,
        layout: str,
        shape: tuple[int, ...],
        dtype: DTypeLike = np.float32,
        *,
        constant: bool = True,
    ) -> Any:
        """A tensor that the runner makes of a weight when it loads; what is computed stays itself.

        Args:
            value: The matched weight.
            layout: Name of the target's function that makes it.
            shape: Its shape.
            dtype: Its element type.
            constant: Whether the compiler may look at it (and copy it into a form of its own);
                otherwise it is an input of the graph and stays where it is.
        """

    def host_weight(
        self,
        value: Any,
        layout: str,
        shape: tuple[int, ...],
        dtype: DTypeLike = np.float32,
    ) -> None:
        """Has a tensor made of a weight that the target's runner reads itself.

        It is no part of the graph. The arguments are those of `weight`.
        """

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> Any:
        """An input of the graph that the target's runner feeds; the same one for every node.

        Args:
            name: Its name.
            dtype: Its element type.
            shape: Its shape; names stand for dimensions that vary.
        """

    def call(self, function: Any, *inputs: Any, _outputs: int = 1, **attributes: Any) -> Any:
        """One node that calls a function made of standard ONNX operators.

        Args:
            function: An `onnxscript.OnnxFunction`; the graph carries its definition.
            inputs: Its inputs.
            _outputs: How many outputs it has.
            attributes: Its attributes.
        """

    def keep_state_in(self, value: Any, dtype: DTypeLike) -> Any:
        """Declares the element type of one half of the KV state; returns the half.

        The shape stays ``[slots, kv_heads, capacity, width]``, capacity a multiple of 16. Each
        16 tokens of a head have their place in it, from which they can be copied to another slot;
        what stands where inside of that is the affair of the operators that the rule emits.
        """

    def supply_in(self, value: Any, dtype: DTypeLike) -> Any:
        """Declares the type in which the runner supplies a rotary table; returns the table."""

    @property
    def activations(self) -> np.dtype[Any]:
        """The type that activations have in this graph."""

    def matrices(self, value: Any) -> Sequence[Any]:
        """The matrices of a matched weight ``[count, rows, columns]``, each a weight of its own.

        Products with them, `Linear` in the neutral operators' domain, are left to later rules.
        """

    def encodings(self) -> frozenset[str]:
        """Names of all encodings that the network's weights run in."""

    def encoding(self, value: Any) -> str:
        """Name of the encoding that a matched weight runs in, or `COMPUTED`."""

    def shape(self, value: Any) -> tuple[int, int]:
        """Rows and columns of a matched weight matrix; of several, the rows of all."""

    def width(self, value: Any) -> int:
        """Last dimension of a matched value."""


@dataclass(frozen=True)
class Rule:
    """Replaces a pattern of operators by what a target runs.

    Attributes:
        name: Says what it emits, for people.
        pattern: ``(op, x, weight, ...)`` returns the outputs of the operators it looks for:
            ``op.Linear(x, weight)``. Neutral operators go by their plain names, and everything that
            is not one of them is a standard ONNX operator. Its parameters are what it binds; one
            that is annotated with a dataclass, here or in `emit`, binds the fields of it.
        emit: ``(emitter, x, weight, ...)`` returns the outputs that replace the pattern's, or None
            to leave what was found as it is.
        encodings: For parameters that are weights, the names of the encodings the rule takes, and
            `COMPUTED`.
        tolerance: Largest error that `ops check` lets pass, relative to the largest value.
        examples: For `ops check`: takes a random generator, gives bindings of the pattern's
            parameters to try the rule on. A tensor is a NumPy array, a weight matrix (float32
            ``[N, K]``) one too, an attribute a number. The shared patterns in `patterns` have
            examples of their own.
        package: Name of the op package that brought the rule; filled in when the package is loaded.
        batch_invariant: Whether what it emits computes a token to the same bits whatever else is
            computed in the call: other sequences, and more or fewer tokens of the same one.
    """

    name: str
    pattern: Callable[..., Any]
    emit: Callable[..., Any]
    encodings: Mapping[str, Collection[str]] = field(default_factory=dict)
    tolerance: float = 1e-4
    examples: Callable[[np.random.Generator], Iterable[Mapping[str, Any]]] | None = None
    package: str = ""
    batch_invariant: bool = False


@dataclass(frozen=True)
class LoweredWeight:
    """A tensor of a lowered graph that is made of a weight.

    Attributes:
        name: Its name in the graph.
        parameter: The weight it is made of.
        layout: Name of what makes it: one of `LAYOUTS`, of the package's, or of the target's own.
        dtype: Its element type, as numpy spells it.
        shape: Its shape.
        constant: True for an initializer, False for an input.
        encoding: Name of what the weight runs in.
        package: Name of the op package whose rule asked for a layout that is none of `LAYOUTS`; it
            is looked for there first. Empty for the others.
        host: Whether it is no part of the graph, but for the target's runner.
        rows: Which rows of the weight it is made of, from the first to the one after the last; None
            for all.
    """

    name: str
    parameter: str
    layout: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool
    encoding: str = ""
    package: str = ""
    host: bool = False
    rows: tuple[int, int] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return math.prod(self.shape) * element_type(self.dtype).itemsize

    @property
    def is_packed(self) -> bool:
        """Whether a layout of the target or of a package makes it, and none of `LAYOUTS`."""
        return self.layout not in LAYOUTS


@dataclass(frozen=True)
class Taken:
    """Which nodes a rule took.

    Attributes:
        package: Name of the op package that brought the rule; empty for the target's own.
        rule: Name of the rule.
        operators: The operators of its pattern, as ``RoPE + Attention``.
        nodes: How often it was applied.
        batch_invariant: See `Rule.batch_invariant`.
    """

    package: str
    rule: str
    operators: str
    nodes: int
    batch_invariant: bool = False


@dataclass(frozen=True)
class LoweredGraph:
    """What a target compiles.

    Attributes:
        model: The serialized ONNX model, without weights.
        weights: What has to be supplied beside the decoder's own inputs.
        state_bytes: Bytes of the KV state that one token of one slot takes in all layers.
        taken: What each rule took, in the order in which the rules were applied; rules that took
            nothing are left out.
        activations: The type of the activations.
    """

    model: bytes
    weights: tuple[LoweredWeight, ...]
    state_bytes: int = 0
    taken: tuple[Taken, ...] = ()
    activations: str = "float32"

    @property
    def batch_invariant(self) -> bool:
        """Whether a sequence's logits do not depend on what is computed beside it."""
        return all(taken.batch_invariant for taken in self.taken)
