"""Numbers that a family adds to those of all decoders: fields that say which key they come from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, get_type_hints

from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.errors import ModelFileError, quoted

_KEY = "key"

EXPERT_COUNT, EXPERT_WIDTH = "expert_count", "expert_feed_forward_length"
"""Keys by which a family is seen to have mixtures of experts, and what is inside of one."""


@dataclass(frozen=True)
class Key:
    """Where a number comes from.

    Attributes:
        name: The metadata key, without the architecture that it begins with.
        least: The smallest value that makes sense.
        most: The largest.
    """

    name: str
    least: float
    most: float


def key(
    name: str,
    default: Any = dataclasses.MISSING,
    *,
    least: float = -(2.0**63),
    most: float = 2.0**63,
) -> Any:
    """A field of a `DecoderConfig` of a family, read from a checkpoint's metadata.

    What the field is annotated with says what is read: int, float, bool, str, or a tuple of int or
    of float, a number for each layer. It is in the keys of caches and in exports by itself.

    Args:
        name: The metadata key, without the architecture that it begins with.
        default: The value where a file does not have it; without one, the file is refused.
        least: The smallest value that makes sense; others are an error.
        most: The largest.
    """
    metadata = {_KEY: Key(name, least, most)}
    if default is dataclasses.MISSING:
        return dataclasses.field(kw_only=True, metadata=metadata)
    return dataclasses.field(default=default, kw_only=True, metadata=metadata)


def keys(kind: type[Any]) -> dict[str, Key]:
    """What the fields of a family's numbers are read from, by field."""
    return {
        field.name: field.metadata[_KEY]
        for field in dataclasses.fields(kind)
        if _KEY in field.metadata
    }


def own_numbers(file: Checkpoint, architecture: str, kind: type[Any]) -> dict[str, Any]:
    """The numbers that a family adds, by field.

    Args:
        file: The checkpoint.
        architecture: Prefix of its keys.
        kind: The dataclass of the family's numbers.

    Raises:
        ModelFileError: A key is missing, of the wrong type or out of range.
    """
    types = get_type_hints(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    read = {}
    for name, source in keys(kind).items():
        path = f"{architecture}.{source.name}"
        if path not in file.metadata and defaults[name] is not dataclasses.MISSING:
            continue
        read[name] = _read(file, path, types[name])
        values = read[name] if isinstance(read[name], tuple) else (read[name],)
        for value in values:
            if isinstance(value, int | float) and not source.least <= value <= source.most:
                raise ModelFileError(
                    f"{file.path}: metadata key {quoted(path)} is {value}; expected a number from"
                    f" {source.least:g} to {source.most:g}"
                )
    return read


def _read(file: Checkpoint, path: str, wanted: Any) -> Any:
    metadata = file.metadata
    if wanted is bool:
        return metadata.boolean(path)
    if wanted is int:
        return metadata.integer(path)
    if wanted is float:
        return metadata.number(path)
    if wanted is str:
        return metadata.string(path)
    if wanted == tuple[int, ...]:
        return tuple(metadata.integers(path))
    if wanted == tuple[float, ...]:
        return tuple(metadata.numbers(path))
    raise TypeError(
        f"a number of a model cannot be {wanted}; expected int, float, bool, str, tuple[int, ...]"
        " or tuple[float, ...]"
    )
