"""The order in which rows are computed, where it is free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from pipelines.common.engine.request import Request

_LOOK_AHEAD = 256
_ALIKE = 16
"""Tokens that prompts have to share to be brought together; for fewer it makes no difference."""


def alike_together(requests: Iterable[Request]) -> Iterator[Request]:
    """Brings prompts that begin alike next to each other, while a slot still holds what they share.

    Those that begin like no other stay in their order. Some hundred are looked at ahead.
    """
    requests = iter(requests)
    while ahead := list(islice(requests, _LOOK_AHEAD)):
        places: dict[tuple[int, ...], int] = {}
        for place, request in enumerate(ahead):
            places.setdefault(_beginning(request), place)
        yield from sorted(ahead, key=lambda one: (places[_beginning(one)], one.prompt))


def _beginning(request: Request) -> tuple[int, ...]:
    return tuple(request.prompt[:_ALIKE])
