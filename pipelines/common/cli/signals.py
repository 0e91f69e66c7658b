"""Ctrl-C and its like: SIGINT, SIGTERM and SIGHUP end the program in the same way.

What they do changes as the program goes on. Before there is anything to lose, and when nothing is
left to lose, they end the process. In between the first signal is a `KeyboardInterrupt`, but
while text is generated it is only noted, so that all that was generated is written and counted.
Another Ctrl-C is a `KeyboardInterrupt` in any case.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = 130
"""The exit code of commands that were interrupted, by whatever signal."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 0.01

_received: int | None = None
_noting = False


def end_at_once() -> None:
    """Has the signals end the process without a word."""
    _handle(lambda number, _: os._exit(128 + number))


def interrupt() -> None:
    """Has the signals interrupt the program."""
    _handle(_interrupt)
    sys.unraisablehook = _come_again


@contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Wherein the first signal is noted, and interrupts nothing; tells whether it has come."""
    global _noting  # noqa: PLW0603 - signals are the process's
    _noting = True
    try:
        yield received
    finally:
        _noting = False


@contextmanager
def ending_a_part() -> Iterator[Callable[[], bool]]:
    """Wherein Ctrl-C ends what goes on, and not the program; tells whether it has come.

    A signal that ends programs ends this one afterwards.
    """
    global _received  # noqa: PLW0603
    with noted() as interrupted:
        yield interrupted
    if _received == signal.SIGINT:
        _received = None
    elif _received is not None:
        raise KeyboardInterrupt


def received() -> bool:
    """Whether a signal has come."""
    return _received is not None


def exit_code(code: str | int | None) -> str | int | None:
    """What a program exits with that ends with `code`: if it was interrupted, it tells by what."""
    return 128 + _received if code == INTERRUPTED and _received is not None else code


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in _ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as of jobs in the background, and nohup
            signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> None:
    global _received  # noqa: PLW0603
    first = _received is None
    _received = _received or number
    # A terminal that is closed, or a system that shuts down, sends several.
    if (not _noting) if first else (number == signal.SIGINT):
        raise KeyboardInterrupt


def _come_again(unraisable: UnraisableHookArgs) -> None:
    """Repeats an interrupt that came up in a callback, out of which it cannot be raised."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(_AGAIN_S, signal.raise_signal, (signal.SIGINT,)).start()
    else:
        sys.__unraisablehook__(unraisable)
