"""Options that belong together, declared once and handed to a command as one dataclass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints


class Without:
    """Marks a parameter whose command does without some of the options, which are as by default."""

    def __init__(self, *names: str) -> None:
        self.names: Final = names


def grouped_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer takes it: each parameter that is a dataclass becomes options, one a field.

    They stand where the parameter stands, in the order of the fields.

    Args:
        command: Takes the dataclasses.
    """
    groups: dict[str, tuple[Callable[..., Any], list[str]]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind, without = group_of(parameter.annotation)
        if kind is None:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        taken = [field for field in fields(kind) if field.name not in without]
        groups[parameter.name] = kind, [field.name for field in taken]
        hints = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in taken
        ]

    @functools.wraps(command)
    def flat(**values: Any) -> None:
        for name, (kind, names) in groups.items():
            values[name] = kind(**{field: values.pop(field) for field in names})
        command(**values)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return flat


def group_of(annotation: Any) -> tuple[Any, set[str]]:
    """The dataclass that a parameter is, and what is left out of it; None if it is an option."""
    kind, *marks = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    if not is_dataclass(kind):
        return None, set()
    return kind, {name for mark in marks if isinstance(mark, Without) for name in mark.names}
