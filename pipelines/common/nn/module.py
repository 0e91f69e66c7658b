"""What networks are put together from: modules with parameters, as those of PyTorch are.

Nothing here needs PyTorch. A module is a plain object whose attributes are parameters, other
modules, lists of them, and whatever else its author keeps in it; its `forward` runs on whatever its
parameters are bound to: torch tensors, or the values of a graph.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from pipelines.common.checkpoints.table import Kind, Weight
from pipelines.common.errors import PluginError

M = TypeVar("M", bound="Module")
T = TypeVar("T")


@dataclass(frozen=True)
class Parameter:
    """A weight that has no values yet.

    Attributes:
        shape: Its dimensions, outermost first.
        tensor: What a checkpoint calls it, behind the `Module.prefix` of all that it is in.
        kind: How it is used, see `pipelines.common.checkpoints.table.Kind`.
        rows: The rows of that tensor that it is, from the first to the one after the last; None for
            all.
    """

    shape: tuple[int, ...]
    tensor: str
    kind: Kind
    rows: tuple[int, int] | None = None


def parameter(
    *shape: int, tensor: str, kind: Kind = "vector", rows: tuple[int, int] | None = None
) -> Any:
    """A `Parameter`, to be assigned to an attribute of a module, which is a tensor when it runs.

    Args:
        shape: Its dimensions, the last one contiguous.
        tensor: The whole name of the tensor in model files, but for a layer's ``blk.0.``.
        kind: What it is, which decides what it may be quantized to.
        rows: The first of the tensor's rows and the first that is not in it any more; None for all.
    """
    return Parameter(shape, tensor, kind, rows)


class Module:
    """A part of a network, or all of it; `forward` says what it computes.

    Attributes:
        prefix: What the names of its tensors begin with: ``blk.0.`` in a layer.
    """

    prefix: str = ""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Calls `forward`."""
        forward: Any = self.forward  # type: ignore[attr-defined]
        return forward(*arguments, **keywords)

    def parameters(self) -> dict[str, Parameter]:
        """Its parameters and those of the modules in it, by name: ``layers.0.attention.query``."""
        return dict(_parameters(self, "", ""))

    def modules(self) -> dict[str, Module]:
        """The modules in it by name, and itself under none."""
        return dict(_modules(self, ""))

    def held(self, kind: type[T]) -> tuple[T, ...]:
        """What modules in it have of a kind, each once, in the order of the modules."""
        values = (value for module in self.modules().values() for value in vars(module).values())
        return tuple(dict.fromkeys(value for value in values if isinstance(value, kind)))

    def weights(self) -> list[Weight]:
        """The weight table: which tensor of a checkpoint fills which parameter.

        Raises:
            PluginError: A parameter has no tensor, or two have the same without being its parts.
        """
        table = [
            Weight(name, each.tensor, each.shape, each.kind, each.rows)
            for name, each in self.parameters().items()
        ]
        first: dict[str, Weight] = {}
        for weight in table:
            if not all(weight.tensor.split(".")):
                raise PluginError(
                    f"parameter {weight.parameter} of the network is the tensor"
                    f" '{weight.tensor}', whose name is not whole; say what files call it"
                )
            other = first.setdefault(weight.tensor, weight)
            tied = {weight.kind, other.kind} == {"embedding", "head"}
            if other is not weight and not tied and None in (weight.rows, other.rows):
                raise PluginError(
                    f"parameters {other.parameter} and {weight.parameter} of the network are both"
                    f" the tensor '{weight.tensor}'; expected one for each, or parts of its rows"
                )
        return table

    def bind(
        self: M, values: Mapping[str, Any], array: Callable[[Any], Any] = lambda array: array
    ) -> M:
        """A copy that computes with values.

        Args:
            values: One for each parameter, by name.
            array: What becomes of the NumPy arrays that modules have, numbers that are no weights.

        Raises:
            KeyError: A parameter has none.
        """
        bound: M = _bound(self, "", values, array)
        return bound


def _parameters(item: Any, name: str, tensor: str) -> Iterator[tuple[str, Parameter]]:
    if isinstance(item, Parameter):
        yield name, replace(item, tensor=tensor + item.tensor)
    if isinstance(item, Module):
        tensor += item.prefix
    for _, path, held in _parts(item, name):
        yield from _parameters(held, path, tensor)


def _modules(item: Any, name: str) -> Iterator[tuple[str, Module]]:
    if isinstance(item, Module):
        yield name, item
    for _, path, held in _parts(item, name):
        yield from _modules(held, path)


def _bound(item: Any, name: str, values: Mapping[str, Any], array: Callable[[Any], Any]) -> Any:
    if isinstance(item, Parameter):
        return values[name]
    if isinstance(item, np.ndarray):
        return array(item)
    inner = {part: _bound(held, path, values, array) for part, path, held in _parts(item, name)}
    if isinstance(item, Module):
        made = copy.copy(item)
        vars(made).update(inner)
        return made
    return list(inner.values()) if isinstance(item, list) else item


def _parts(item: Any, name: str) -> Iterator[tuple[str, str, Any]]:
    """The attributes of a module, or the elements of a list: name there, whole name, and thing."""
    parts: Iterable[tuple[int | str, Any]] = ()
    if isinstance(item, Module):
        parts = vars(item).items()
    elif isinstance(item, list):
        parts = enumerate(item)
    for part, held in parts:
        yield str(part), f"{name}.{part}" if name else str(part), held
