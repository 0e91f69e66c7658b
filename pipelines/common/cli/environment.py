"""Failures that say something of the machine, and nothing of the program."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.common import dependencies
from pipelines.common.errors import PipelineError, SystemLimitError

_MEMORY = "there is not enough memory, or a limit leaves too little of it: see 'ulimit -v'"
_FILES = "too many files are open, for a limit or for the system: see 'ulimit -n'"
_THREADS = "the system starts no more threads: see 'ulimit -u', or lower --threads"

_LIMITS = {
    errno.ENOMEM: _MEMORY,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}
_SAID = (
    (re.compile(r"cannot allocate memory|failed to map segment|bad_alloc", re.IGNORECASE), _MEMORY),
    (re.compile(r"too many open files", re.IGNORECASE), _FILES),
    (re.compile(r"can't start new thread|resource temporarily unavailable", re.I), _THREADS),
)
"""How loaders and libraries say it, in exceptions of any type and without a number."""


@contextmanager
def explained() -> Iterator[None]:
    """Wherein what the machine does not give is told in one line; bugs stay what they are.

    Raises:
        SystemLimitError: A limit of the system is reached.
        DependencyError: A package that the project runs on cannot be imported.
    """
    try:
        yield
    except PipelineError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _LIMITS:
            raise SystemLimitError(f"{error}; {_LIMITS[error.__cause__.errno]}") from error
        raise
    except Exception as error:
        explanation = _of(error)
        if explanation is None:
            raise
        raise explanation from error


def _of(error: Exception) -> PipelineError | None:
    if isinstance(error, MemoryError):
        return SystemLimitError(_MEMORY)
    if isinstance(error, OSError) and error.errno in _LIMITS:
        return SystemLimitError(_LIMITS[error.errno])
    for pattern, limit in _SAID:
        if pattern.search(str(error)):
            return SystemLimitError(limit)
    return dependencies.explained(error) if isinstance(error, ImportError) else None
