"""``--random-weights`` and ``--random-config``: what they ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.common.errors import UsageError

if TYPE_CHECKING:
    from pipelines.common.checkpoints.random import RandomWeights

_SEED = "seed"
_WORDS = {"true": True, "false": False}


def asked_random(wanted: bool, config: Sequence[str]) -> RandomWeights | None:
    """The random weights that the options ask for; None where they ask for none.

    Args:
        wanted: Whether there are to be any.
        config: ``name=value``: a size of the model, or the seed. Several values of one name have
            commas between them.

    Raises:
        UsageError: One is no pair, or given twice, or none are wanted.
        ParameterError: The seed is none.
    """
    if config and not wanted:
        raise UsageError("--random-config is about random weights; add --random-weights")
    if not wanted:
        return None
    from pipelines.common.checkpoints.random import RandomWeights

    pairs: dict[str, Any] = {}
    for text in config:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise UsageError(f"--random-config is '{text}'; expected NAME=VALUE, as layers=4")
        if name in pairs:
            raise UsageError(f"--random-config names {name} twice; leave one out")
        pairs[name] = _read(value)
    return RandomWeights(pairs.pop(_SEED, 0), pairs)


def random_words(wanted: RandomWeights | None) -> list[str]:
    """The options that ask for them."""
    if wanted is None:
        return []
    pairs = {**({_SEED: wanted.seed} if wanted.seed else {}), **wanted.config}
    words = ["--random-weights"]
    for name, value in pairs.items():
        words += ["--random-config", f"{name}={_written(value)}"]
    return words


def _read(text: str) -> Any:
    if "," in text:
        return tuple(_read(part) for part in text.split(",") if part)
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return "".join(f"{_written(part)}," for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
