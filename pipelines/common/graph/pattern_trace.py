"""What a rule's pattern looks for, found out by calling it; needs neither torch nor ONNX."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partialmethod
from typing import Any

from pipelines.common.encodings import ENCODINGS
from pipelines.common.graph.records import flat
from pipelines.common.graph.rules import Rule
from pipelines.common.ops import OPERATORS


@dataclass(frozen=True, eq=False)
class Node:
    """An operator of a pattern, compared by identity.

    Attributes:
        operator: Its name.
        inputs: Parameters of the pattern, outputs of other nodes, or constants.
        attributes: Likewise, by name; so is ``_domain``, where the pattern names one.
    """

    operator: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Value:
    """A parameter of a pattern, or an output of one of its nodes; patterns can calculate with it.

    Attributes:
        name: The parameter's name; empty for an output.
        node: Whose output it is; None for a parameter.
        index: Which of the node's outputs.
    """

    name: str = ""
    node: Node | None = None
    index: int = 0

    def _operator(self, operator: str, other: Any) -> Value:
        return Value(node=Node(operator, (self, other), {}))

    def _reflected(self, operator: str, other: Any) -> Value:
        return Value(node=Node(operator, (other, self), {}))

    __add__ = partialmethod(_operator, "Add")
    __radd__ = partialmethod(_reflected, "Add")
    __sub__ = partialmethod(_operator, "Sub")
    __rsub__ = partialmethod(_reflected, "Sub")
    __mul__ = partialmethod(_operator, "Mul")
    __rmul__ = partialmethod(_reflected, "Mul")
    __truediv__ = partialmethod(_operator, "Div")
    __rtruediv__ = partialmethod(_reflected, "Div")
    __pow__ = partialmethod(_operator, "Pow")


class _Recorder:
    """Stands in for the builder that a pattern is called with."""

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        def record(
            *inputs: Any, _outputs: int | Sequence[str | None] = 1, **attributes: Any
        ) -> Any:
            node = Node(operator, inputs, attributes)
            count = _outputs if isinstance(_outputs, int) else len(_outputs)
            values = tuple(Value(node=node, index=index) for index in range(count))
            return values[0] if count == 1 else values

        return record


@dataclass(frozen=True)
class Traced:
    """A pattern as a graph.

    Attributes:
        outputs: What it returns.
    """

    outputs: tuple[Value, ...]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Its nodes, in the order in which they run."""
        found: dict[Node, None] = {}

        def visit(value: Any) -> None:
            if isinstance(value, Value) and value.node is not None and value.node not in found:
                for read in value.node.inputs:
                    visit(read)
                found[value.node] = None

        for output in self.outputs:
            visit(output)
        return tuple(found)

    @property
    def operators(self) -> str:
        """Its operators, as ``RoPE + Attention``."""
        return " + ".join(dict.fromkeys(node.operator for node in self.nodes))

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that it uses, in the order in which its nodes do."""
        return tuple(dict.fromkeys(value.name for value in self._values() if not value.node))

    @cached_property
    def optional(self) -> frozenset[str]:
        """The parameters that nodes may go without."""
        names = set()
        for node in self.nodes:
            if (operator := OPERATORS.get(node.operator)) is not None:
                given = dict(zip(operator.tensors(node.attributes), node.inputs, strict=False))
                given |= node.attributes
                left_out = (given[name] for name in operator.defaults.keys() & given.keys())
                names |= {value.name for value in left_out if isinstance(value, Value)}
        return frozenset(names)

    @cached_property
    def structure(self) -> tuple[Any, ...]:
        """Equal for patterns that look for the same graph, whatever their parameters are called."""
        nodes = {node: number for number, node in enumerate(self.nodes)}

        def place(value: Any) -> Any:
            if not isinstance(value, Value):
                return repr(value)
            if value.node is None:
                return "parameter", self.parameters.index(value.name)
            return "output", nodes[value.node], value.index

        def described(node: Node) -> tuple[Any, ...]:
            attributes = sorted((name, place(value)) for name, value in node.attributes.items())
            return node.operator, tuple(map(place, node.inputs)), tuple(attributes)

        return tuple(map(described, self.nodes)), tuple(map(place, self.outputs))

    def _values(self) -> Iterator[Value]:
        for node in self.nodes:
            attributes = (value for _, value in sorted(node.attributes.items()))
            yield from (v for v in (*node.inputs, *attributes) if isinstance(v, Value))


def trace(pattern: Callable[..., Any]) -> Traced:
    """Calls a pattern and records what it asks for."""
    pattern = flat(pattern)
    names = list(inspect.signature(pattern).parameters)[1:]
    outputs = pattern(_Recorder(), *map(Value, names))
    return Traced(tuple(outputs) if isinstance(outputs, Sequence) else (outputs,))


def collide(first: Rule, second: Rule) -> bool:
    """Whether two rules look for the same operators with weights in a common encoding."""
    one, other = trace(first.pattern), trace(second.pattern)
    if one.structure != other.structure:
        return False
    return all(
        set(first.encodings.get(mine, ENCODINGS)) & set(second.encodings.get(yours, ENCODINGS))
        for mine, yours in zip(one.parameters, other.parameters, strict=True)
    )
