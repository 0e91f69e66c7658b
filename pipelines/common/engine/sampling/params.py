"""The settings of a sequence's sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any, Final

from pipelines.common.engine.sampling.dry import BREAKERS
from pipelines.common.engine.sampling.order import DEFAULT, Stage
from pipelines.common.errors import ParameterError

RANDOM_SEED = -1
"""What users may write for a seed that is drawn; vLLM has it so."""


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen; the defaults are greedy and change nothing.

    Attributes:
        temperature: Divides the logits; 0 takes the most likely token of those that are left.
        top_k: Keeps the k most likely tokens and those as likely as the last of them; 0 keeps all,
            as does -1, which is vLLM's word for it.
        top_p: Keeps the fewest most likely tokens that together reach this probability, and those
            as likely as the last of them.
        min_p: Keeps tokens at least this fraction as likely as the most likely one.
        repetition_penalty: Divides the positive and multiplies the negative logits of tokens
            that have occurred.
        seed: Of the random numbers.
        presence_penalty: Taken from the logits of tokens that have occurred.
        frequency_penalty: Taken from them for each time.
        repeat_last_n: How many tokens of prompt and output these penalties look back on; -1 for
            all.
        typical_p: Keeps the most typical tokens that together exceed this probability.
        top_n_sigma: Keeps tokens whose logit is at most so many standard deviations below the
            largest; 0 keeps all, as does -1.
        xtc_probability: How often all but the least likely of the tokens are left out that reach
            `xtc_threshold`.
        xtc_threshold: A probability; above a half it changes nothing.
        dry_multiplier: Of the penalty for a token that goes on with a repeated sequence.
        dry_base: What that is multiplied by for each token of the sequence beyond the allowed.
        dry_allowed_length: Longest repeated sequence that may still be gone on with at no more than
            `dry_multiplier`.
        dry_penalty_last_n: How many tokens of prompt and output are searched; -1 for all.
        dry_sequence_breakers: Texts; a token with one of them ends a sequence.
        logit_bias: What is added to the logits of tokens: their ids, each once, and the summands.
        ignore_eos: Whether the tokens that end a text cannot be chosen.
        samplers: Which samplers have a part, and in which order.

    Raises:
        ParameterError: A value is no number, or out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = -1
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = BREAKERS
    logit_bias: tuple[tuple[int, float], ...] = ()
    ignore_eos: bool = False
    samplers: tuple[Stage, ...] = DEFAULT

    def __post_init__(self) -> None:
        for name, (valid, expected) in _NUMBERS.items():
            value = getattr(self, name)
            if not (_is(value, Real) and abs(value) < math.inf and valid(value)):
                raise ParameterError(name, value, f"a number {expected}")
        for name, (least, also) in _INTEGERS.items():
            value = getattr(self, name)
            if not (_is(value, Integral) and least <= value < 1 << 63):
                first = max(least, 0)
                raise ParameterError(name, value, f"an integer from {first} to 2^63 - 1{also}")
        for token, bias in self.logit_bias:
            whole = _is(token, Integral) and 0 <= token < 1 << 63
            if not (whole and _is(bias, Real) and abs(bias) < math.inf):
                raise ParameterError("logit_bias", {token: bias}, "token ids, each with a number")
        if not all(self.dry_sequence_breakers):
            raise ParameterError("dry_sequence_breakers", "", "texts that are not empty")

    def as_json(self) -> dict[str, Any]:
        """The settings, by name; JSON values only."""
        biases = {str(token): bias for token, bias in self.logit_bias}
        breakers = [*self.dry_sequence_breakers]
        order = ";".join(map(str, self.samplers))
        made = {"logit_bias": biases, "dry_sequence_breakers": breakers, "samplers": order}
        return {**asdict(self), **made}


_NUMBERS: Final[dict[str, tuple[Callable[[float], bool], str]]] = {
    "temperature": (lambda value: value >= 0, "0 or more"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "min_p": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "repetition_penalty": (lambda value: value > 0, "above 0"),
    "presence_penalty": (math.isfinite, "that is finite"),
    "frequency_penalty": (math.isfinite, "that is finite"),
    "typical_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "top_n_sigma": (lambda value: value >= 0 or value == -1, "0 or more, or -1 for all"),
    "xtc_probability": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "xtc_threshold": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "dry_multiplier": (lambda value: value >= 0, "0 or more"),
    "dry_base": (lambda value: value >= 1, "1 or more"),
}
"""Whether a value makes sense, and what would."""

_INTEGERS: Final[dict[str, tuple[int, str]]] = {
    "top_k": (-1, ", or -1 for all"),
    "seed": (0, ""),
    "repeat_last_n": (-1, ", or -1 for all"),
    "dry_allowed_length": (1, ""),
    "dry_penalty_last_n": (-1, ", or -1 for all"),
}
"""The least, and what that means if it is none."""


def _is(value: object, kind: type) -> bool:
    """Whether something is a number of a kind; in Python, though nowhere else, true is 1."""
    return isinstance(value, kind) and not isinstance(value, bool)
