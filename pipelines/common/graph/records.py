"""Records as parameters of patterns and emit functions: a dataclass that stands for its fields.

What a pattern binds has a name each, and an operator may have a dozen of them. A function that has
a parameter annotated with a dataclass, ``inputs: AttentionInputs``, binds the fields of that under
their names and is given them as one; whoever only passes it on need not know what is in it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin


def flat(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with a parameter for each field of its records; one without them is itself.

    A record with a default, ``rotation: Rotation | None = None``, is left out where none of its
    fields is bound.
    """
    names: list[str] = []
    records: dict[str, type[Any]] = {}
    for parameter in inspect.signature(function).parameters.values():
        record = _record(parameter.annotation, function)
        if record is not None:
            records[parameter.name] = record
        names += [f.name for f in fields(record)] if record else [parameter.name]
    if not records:
        return function

    @functools.wraps(function)
    def with_records(op: Any, *values: Any, **bound: Any) -> Any:
        bound |= zip(names[1:], values, strict=False)
        for name, record in records.items():
            given = {f.name: bound.pop(f.name) for f in fields(record) if f.name in bound}
            if given:
                bound[name] = record(**given)
        return function(op, **bound)

    # By it the rewriter finds what a pattern binds.
    with_records.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    return with_records


def _record(annotation: Any, function: Callable[..., Any]) -> type[Any] | None:
    """The dataclass that an annotation names, also beside None."""
    if isinstance(annotation, str):
        while isinstance(function, functools.partial):
            function = function.func
        try:
            annotation = eval(annotation, getattr(inspect.unwrap(function), "__globals__", {}))
        except (AttributeError, NameError, SyntaxError, TypeError):  # for type checkers only
            return None
    union = get_origin(annotation) in (Union, UnionType)
    kinds = get_args(annotation) if union else (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)
