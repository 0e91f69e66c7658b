"""What makes the records of plugins sound."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from pipelines.common.registry.hookspecs import (
    CommandRecord,
    OpPackageRecord,
    PipelineRecord,
    Record,
    SamplerRecord,
    TargetRecord,
    TaskRecord,
    WeightFormatRecord,
)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_FUNCTION_NAME = re.compile(r"[\w.]+:\w+")


def check_record(record: Any, hook: str, kind: type[Record]) -> None:
    """Makes sure that whatever is done with a record later can be done.

    Args:
        record: What a plugin has returned.
        hook: The hook that returned it.
        kind: What it has to be.

    Raises:
        TypeError: It is something else, or one of its fields is.
        ValueError: A field is not what its record says of it.
    """
    if not isinstance(record, kind):
        raise TypeError(f"{hook} returned {record!r}; expected {kind.__name__} records")
    if not isinstance(record.name, str) or not _NAME.fullmatch(record.name):
        raise ValueError(f"{hook}: '{record.name}' is no name (a-z, 0-9, '-' and '_')")
    if not isinstance(record.summary, str):
        raise TypeError(f"{hook}: the summary of '{record.name}' is no text")
    if isinstance(record, TargetRecord):
        _check_texts(record.requires, f"{hook}: what '{record.name}' requires")
        if not isinstance(record.preference, int):
            raise TypeError(f"{hook}: the preference of '{record.name}' is no integer")
    if isinstance(record, WeightFormatRecord):
        _check_texts(record.suffixes, f"{hook}: the endings of '{record.name}'")
        _check_texts(record.files, f"{hook}: the files of '{record.name}'")
    if isinstance(record, TargetRecord) and record.name == "auto":
        raise ValueError(f"{hook}: 'auto' stands for the best target; call it otherwise")
    if isinstance(record, OpPackageRecord):
        if not isinstance(record.path, Path):
            raise TypeError(f"{hook}: the path of '{record.name}' is no Path")
        if not isinstance(record.everywhere, bool):
            raise TypeError(f"{hook}: everywhere of '{record.name}' is neither True nor False")
        return
    if isinstance(record, PipelineRecord) and not isinstance(record.task, str):
        raise TypeError(f"{hook}: the task of '{record.name}' is no name")
    if isinstance(record, PipelineRecord):
        formats = tuple(getattr(each, "format", None) for each in record.translations)
        _check_texts(formats, f"{hook}: what '{record.name}' brings translations for")
    if isinstance(record, SamplerRecord):
        _check_settings(record, hook)
    if isinstance(record, TaskRecord | CommandRecord):
        function: Any = record.command
    else:
        function = record.open if isinstance(record, WeightFormatRecord) else record.load
    if not isinstance(function, str) and not callable(function):
        raise TypeError(f"{hook}: '{record.name}' is given {function!r}; expected a function")
    if isinstance(function, str) and not _FUNCTION_NAME.fullmatch(function):
        raise ValueError(f"{hook}: '{function}' of '{record.name}' is not 'module:function'")


def _check_texts(values: Any, what: str) -> None:
    if not isinstance(values, tuple) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{what} is {values!r}; expected a tuple of texts")


def _check_settings(record: SamplerRecord, hook: str) -> None:
    settings = record.settings
    if not isinstance(settings, Mapping) or not all(
        isinstance(name, str) and name.isidentifier() and isinstance(value, Real)
        for name, value in settings.items()
    ):
        raise TypeError(
            f"{hook}: the settings of '{record.name}' are {settings!r}; expected names, each with a"
            " number"
        )
