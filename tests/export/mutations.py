"""JSON documents that are changed at random, and graphs that are."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    4096,
    2**31 - 1,
    2**31,
    2**63,
    10**30,
    -(2**63),
    0.5,
    -0.0,
    1e-300,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "cpu",
    "float32",
    "float16",
    "int8",
    "uint8",
    "bool",
    "float64",
    "bfloat16",
    "../x",
    "/dev/zero",
    "native",
    "weights.bin",
    "\0",
    "\ud800",
    "\x1b[31m\n",
    "x" * 300,
    [],
    {},
    [[]],
    [1, 2],
    {"": None},
]


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a document."""
    yield path
    items = document.items() if isinstance(document, dict) else ()
    items = enumerate(document) if isinstance(document, list) else items
    for key, value in items:
        yield from places(value, (*path, key))


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def mutated(document: Any, generator: random.Random) -> Any:
    """A document with a few changes to its structure and its values."""
    document = copy.deepcopy(document)
    for _ in range(generator.choice([1, 1, 1, 2, 2, 3, 5])):
        paths = [path for path in places(document) if path]
        if not paths:
            break
        # As likely in each part of the document, however many entries it has.
        part = generator.choice(sorted({str(path[0]) for path in paths}))
        *outer, key = generator.choice([path for path in paths if str(path[0]) == part])
        inner = at(document, tuple(outer))
        change = generator.randrange(6)
        if change == 0:
            del inner[key]
        elif change == 1:
            inner[key] = copy.deepcopy(generator.choice(VALUES))
        elif change == 2:
            inner[key] = copy.deepcopy(at(document, generator.choice(paths)))
        elif change == 3 and isinstance(inner, dict):
            inner[str(generator.choice(VALUES))] = inner.pop(key)
        elif change == 3:
            inner.insert(generator.randrange(len(inner) + 1), copy.deepcopy(inner[key]))
        elif change == 4 and type(inner[key]) in (int, float):
            factor = generator.choice([0, -1, 0.5, 2, 3, 1.5, 1 << 20])
            inner[key] = type(inner[key])(inner[key] * factor)
        elif change == 4 and isinstance(inner[key], str):
            inner[key] = inner[key][: generator.randrange(len(inner[key]) + 1)]
        elif type(inner[key]) is int:
            inner[key] += generator.choice([-4096, -16, -1, 1, 2, 16, 4096])
    return document
