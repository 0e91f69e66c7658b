"""How a neutral operator is declared: a name in the graph, a shape rule and a torch reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch

from pipelines.common.errors import OpPackageError

P = ParamSpec("P")
R = TypeVar("R")

DOMAIN = "pipelines"
"""ONNX domain of the neutral operators."""

VERSION = 1
"""Opset version of `DOMAIN`."""


@dataclass(frozen=True)
class NeutralOperator:
    """One operator of the neutral graph.

    Tensor arguments of the reference are the node's inputs, the others its attributes, under the
    same names.

    Attributes:
        name: Operator type in the graph, such as ``RMSNorm``.
        overload: The torch operator that a traced model calls.
        shape: Makes empty outputs of the right shapes and types from the arguments.
    """

    name: str
    overload: torch._ops.OpOverload
    shape: Callable[..., Any]

    def emit(self, *args: Any) -> Any:
        """Stands in for the operator during export: adds its node to the traced graph."""
        parameters = self.overload._schema.arguments
        outputs = self.shape(*args)
        single = isinstance(outputs, torch.Tensor)
        results = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{self.name}",
            [value for value in args if isinstance(value, torch.Tensor)],
            {
                parameter.name: value
                for parameter, value in zip(parameters, args, strict=False)
                if not isinstance(value, torch.Tensor)
            },
            dtypes=[output.dtype for output in ([outputs] if single else outputs)],
            shapes=[output.shape for output in ([outputs] if single else outputs)],
            version=VERSION,
        )
        return results[0] if single else tuple(results)


OPERATORS: dict[str, NeutralOperator] = {}
"""Every declared operator, by its name in the graph."""


def neutral_operator(
    name: str, shape: Callable[..., R]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declares the decorated torch function as the reference of the neutral operator `name`.

    Args:
        name: Operator type in the graph.
        shape: Takes the reference's arguments and returns empty tensors like its outputs.

    Raises:
        ValueError: An operator of that name is declared already.
    """

    def declare(reference: Callable[P, R]) -> Callable[P, R]:
        if name in OPERATORS:
            raise ValueError(f"neutral operator {name} is declared twice")
        qualified = f"{DOMAIN}::{reference.__name__}"
        operator = torch.library.custom_op(qualified, reference, mutates_args=())
        operator.register_fake(shape)
        overload = getattr(torch.ops.pipelines, reference.__name__).default
        OPERATORS[name] = NeutralOperator(name, overload, shape)
        return operator

    return declare


def operator(name: str) -> Callable[..., Any]:
    """The torch operator of a neutral operator that an op package declares.

    Raises:
        OpPackageError: No operator of that name is declared.
    """
    if name not in OPERATORS:
        raise OpPackageError(
            f"the model uses operator '{name}', and no op package that declares it was given;"
            " name one with `custom_ops`"
        )
    return OPERATORS[name].overload
