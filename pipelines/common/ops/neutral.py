"""How a neutral operator is declared: a name in the graph, a shape rule and a torch reference."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np

from pipelines.common.errors import OpPackageError
from pipelines.common.ops.value import Recording, Spec, Value

P = ParamSpec("P")
R = TypeVar("R")

DOMAIN = "pipelines"
"""ONNX domain of the neutral operators."""


@dataclass(frozen=True)
class NeutralOperator:
    """One operator of the neutral graph.

    Tensor arguments of the reference are the node's inputs, the others its attributes, under the
    same names. An argument with a default is left out of the node where it has that value: a
    pattern that does not name it takes no node that has it.

    Attributes:
        name: Operator type in the graph, such as ``RMSNorm``.
        reference: What it means, on torch tensors.
        shape: What its outputs are, given its arguments: a `Spec` for each tensor.
        parameters: Names of its arguments.
        defaults: Values of those that may be left out.
        call: What a network calls: the reference, or in a graph a node.
    """

    name: str
    reference: Callable[..., Any]
    shape: Callable[..., Any]
    parameters: tuple[str, ...]
    defaults: Mapping[str, Any]
    call: Callable[..., Any]

    def tensors(self, attributes: Collection[str]) -> tuple[str, ...]:
        """Names of its inputs in their order, given those of a node's attributes."""
        return tuple(name for name in self.parameters if name not in attributes)

    def specs(self, arguments: Mapping[str, Any]) -> Sequence[Spec]:
        """What its outputs are.

        Args:
            arguments: By name: a `Spec` for each tensor, and the attributes.
        """
        outputs = self.shape(**arguments)
        return (outputs,) if isinstance(outputs, Spec) else tuple(outputs)

    def emit(self, recording: Recording, arguments: Mapping[str, Any]) -> Any:
        """Notes its node; returns its outputs."""
        arguments = {  # an array that the network has is a tensor, as it is where it runs eagerly
            name: recording.constant(v, v.dtype.name) if isinstance(v, np.ndarray) else v
            for name, v in arguments.items()
        }
        tensors = {name: v for name, v in arguments.items() if isinstance(v, Value | None)}
        attributes = {
            name: v
            for name, v in arguments.items()
            if name not in tensors and not (name in self.defaults and v == self.defaults[name])
        }
        inputs = [*tensors.values()]
        while inputs and inputs[-1] is None:
            inputs.pop()
        specs = self.specs({n: v.spec if isinstance(v, Value) else v for n, v in arguments.items()})
        values = recording.emit(self.name, inputs, attributes, specs, domain=DOMAIN)
        return values[0] if len(values) == 1 else values


OPERATORS: dict[str, NeutralOperator] = {}
"""Every declared operator, by its name in the graph."""


def neutral_operator(
    name: str, shape: Callable[..., Any]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declares the decorated torch function as the reference of the neutral operator `name`.

    Args:
        name: Operator type in the graph.
        shape: Takes the reference's arguments, with a `Spec` in the place of each tensor, and
            returns that of the output, or of each: ``lambda x, slope: x`` for one that is like `x`.

    Raises:
        ValueError: An operator of that name is declared already.
    """

    def declare(reference: Callable[P, R]) -> Callable[P, R]:
        if name in OPERATORS:
            raise ValueError(f"neutral operator {name} is declared twice")
        signature = inspect.signature(reference)

        @functools.wraps(reference)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            for argument in bound.arguments.values():
                if isinstance(argument, Value):
                    result: R = OPERATORS[name].emit(argument.recording, bound.arguments)
                    return result
            computed: R = OPERATORS[name].reference(*args, **kwargs)
            return computed

        defaults = {
            parameter.name: parameter.default
            for parameter in signature.parameters.values()
            if parameter.default is not parameter.empty
        }
        parameters = tuple(signature.parameters)
        # By name, since whoever loads an op package guards what it declares.
        OPERATORS[name] = NeutralOperator(name, reference, shape, parameters, defaults, call)
        return call

    return declare


def operator(name: str) -> Callable[..., Any]:
    """What calls a neutral operator that an op package declares, be it later.

    A call raises `OpPackageError` where no operator of that name is declared.

    Args:
        name: Its name in graphs.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        if name not in OPERATORS:
            raise OpPackageError(
                f"the model uses operator '{name}', and no op package that declares it was given;"
                " name one with `custom_ops`"
            )
        return OPERATORS[name].call(*args, **kwargs)

    return call
