"""Processes that write to the same place, beside each other or until they are killed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

spawn = multiprocessing.get_context("spawn")


def exit_codes(writers: Sequence[BaseProcess]) -> list[int | None]:
    """What processes end with; those that hang are ended, as the test's own end would wait."""
    for writer in writers:
        writer.start()
    try:
        for writer in writers:
            writer.join(timeout=60)
        return [writer.exitcode for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
