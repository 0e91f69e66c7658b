"""What a network takes, keeps and gives: all that targets and runners know of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.common.errors import PluginError
from pipelines.common.ops.value import Spec
from pipelines.common.rotary.rope import Rope


@dataclass(frozen=True, eq=False)
class KVCache:
    """What a layer keeps of each sequence: the keys and values of its tokens.

    One is not another, however alike they are.

    Attributes:
        queries: Heads that look at it.
        heads: Heads of keys, and of values.
        width: Elements of a key.
        window: Tokens that are looked back at; 0 for all.
        value_width: Elements of a value; 0 for `width`.
    """

    queries: int
    heads: int
    width: int
    window: int = 0
    value_width: int = 0

    @property
    def widths(self) -> tuple[int, int]:
        """Elements of a key and of a value."""
        return self.width, self.value_width or self.width


@dataclass(frozen=True)
class Interface:
    """The declaration of a network.

    Attributes:
        vocabulary: Token ids that it takes, from 0, and has logits of.
        hidden_size: Elements of a token's vector between its layers.
        widest: Elements of the widest vector that a layer makes of it.
        caches: What it keeps, in the order of its layers.
        ropes: What it rotates heads by, each once.
        takes: The arrays that a call is given, by name; what it keeps, tables and weights are
            besides. Sizes with names differ from call to call: ``batch`` is how many sequences are
            computed at once, ``sequence`` how many tokens of each. Where all that it gives is of
            that size, a target may pad it, of which only `SelfAttention` is told.
        gives: The arrays that it gives, by name, likewise; what it keeps is besides.
    """

    vocabulary: int
    hidden_size: int
    widest: int
    caches: tuple[KVCache, ...]
    ropes: tuple[Rope, ...]
    takes: Mapping[str, Spec]
    gives: Mapping[str, Spec]

    @cached_property
    def states(self) -> Mapping[KVCache, tuple[str, str]]:
        """The inputs that are the two halves of each cache; outputs have ``new_`` before it."""
        return {cache: (f"key.{n}", f"value.{n}") for n, cache in enumerate(self.caches)}

    @cached_property
    def rotations(self) -> Mapping[Rope, tuple[str, str]]:
        """The inputs that are the cosines and sines of each rotary embedding."""
        numbered = ((rope, f".{n}" if n else "") for n, rope in enumerate(self.ropes))
        return {rope: (f"cos{suffix}", f"sin{suffix}") for rope, suffix in numbered}

    def inputs(self) -> dict[str, Spec]:
        """What a call is given before the weights: arrays, rotary tables, and what is kept."""
        return {
            **self.takes,
            **{
                name: Spec(("positions", rope.dims // 2))
                for rope, names in self.rotations.items()
                for name in names
            },
            **{
                name: Spec(("batch", cache.heads, "capacity", width))
                for cache, names in self.states.items()
                for name, width in zip(names, cache.widths, strict=True)
            },
        }

    def check_call(self, fed: Collection[str], wanted: str) -> None:
        """Makes sure that it can be called.

        Args:
            fed: What its caller has for it, by name.
            wanted: What it has to give.

        Raises:
            PluginError: It takes something else, or gives something else.
        """
        if others := sorted(self.takes.keys() - fed):
            raise PluginError(
                f"the network takes {', '.join(others)}, which nothing here has for it; expected"
                f" some of {', '.join(fed)}"
            )
        if wanted not in self.gives:
            raise PluginError(
                f"the network gives {', '.join(self.gives) or 'nothing'}; expected {wanted}"
            )

    def check_results(self, shapes: Mapping[str, Sequence[int | str]]) -> None:
        """Makes sure that a network gives what it says.

        Args:
            shapes: Of what it gives, by name.

        Raises:
            PluginError: It gives something else.
        """
        for name, spec in self.gives.items():
            shape = shapes.get(name)
            if shape is None or not _fits(shape, spec.shape):
                given = "none" if shape is None else f"some of shape {_listed(shape)}"
                raise PluginError(
                    f"the network gives no {name} of shape {_listed(spec.shape)}, but {given};"
                    " expected what its interface declares"
                )

    def tables(self, positions: int) -> dict[str, NDArray[np.float32]]:
        """The rotary tables by the names of their inputs, each ``[positions, dims / 2]``.

        Raises:
            ModelFileError: See `Rope.tables`.
        """
        return {
            name: table
            for rope, names in self.rotations.items()
            for name, table in zip(names, rope.tables(positions), strict=True)
        }

    def state_shapes(self, slots: int, capacity: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the state's halves by the names of their inputs.

        Args:
            slots: Sequences side by side.
            capacity: Tokens that each of them has room for.
        """
        return {
            name: (slots, cache.heads, capacity, width)
            for cache, names in self.states.items()
            for name, width in zip(names, cache.widths, strict=True)
        }

    @property
    def token_elements(self) -> int:
        """Numbers that are kept of one token of a sequence."""
        return sum(cache.heads * sum(cache.widths) for cache in self.caches)


def _fits(shape: Sequence[int | str], declared: Sequence[int | str]) -> bool:
    """Whether a shape has the dimensions that are declared, and the sizes that have no names."""
    return len(shape) == len(declared) and all(
        size == wanted
        for size, wanted in zip(shape, declared, strict=True)
        if isinstance(wanted, int)
    )


def _listed(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"
