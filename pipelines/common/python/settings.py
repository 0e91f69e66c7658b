"""The settings that Python programs may give, by name."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, Final, ParamSpec, TypedDict, TypeVar

from pipelines.common.engine.sampling import RANDOM_SEED, SamplingParams
from pipelines.common.engine.sampling.order import Find, stages
from pipelines.common.errors import ParameterError
from pipelines.common.registry.entries import unknown_name
from pipelines.common.requests.text import Defaults

P = ParamSpec("P")
R = TypeVar("R")

MAX_NEW_TOKENS: Final = 256
"""Most tokens of output where nobody says how many."""


class Settings(TypedDict, total=False):
    """How a text is continued; what is left out is as on the command line, see `docs/sampling.md`.

    Attributes:
        max_new_tokens: Most tokens of output; 256 by default, and 1,024 in a conversation.
        stop: A text, or several, before which the output ends.
        seed: Same seed, same text; random by default, and for -1. Of several prompts, or of several
            messages of a conversation, each has the next one.
        temperature: Divides the logits; 0, the default, takes the most likely token.
        top_k: Keeps the k most likely tokens; 0 is off.
        top_p: Keeps the fewest tokens of this joint probability.
        min_p: Keeps tokens this likely, relative to the likeliest.
        typical_p: Keeps the most typical tokens of this joint probability.
        top_n_sigma: Keeps logits so many deviations from the largest; 0 is off.
        xtc_probability: How often the likeliest tokens but one are left out.
        xtc_threshold: From which probability on they are; above 0.5 is off.
        repetition_penalty: Above 1 makes tokens less likely that occurred before.
        presence_penalty: Taken from the logits of tokens that occurred before.
        frequency_penalty: Taken from them for each time that they did.
        repeat_last_n: How many tokens these three look back on; -1 for all.
        dry_multiplier: Penalty for going on with a repeated sequence; 0 is off.
        dry_base: Multiplies that for each token beyond the allowed length.
        dry_allowed_length: Length from which on a repeated sequence is penalized.
        dry_penalty_last_n: How many tokens are searched for repetitions; -1 for all.
        dry_sequence_breakers: Texts; a token with one of them ends a sequence.
        logit_bias: What is added to the logits of tokens, by their ids.
        ignore_eos: Whether the tokens that end a text cannot be chosen.
        samplers: Names of samplers in their order, as ``"top_k;top_p;temperature"``.
        logprobs: How many of the likeliest tokens results tell wherever one is chosen, beside how
            likely that one was; None, the default, for no log-probabilities.
    """

    max_new_tokens: int
    stop: str | Sequence[str]
    seed: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    top_n_sigma: float
    xtc_probability: float
    xtc_threshold: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    repeat_last_n: int
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: Sequence[str]
    logit_bias: Mapping[int, float]
    ignore_eos: bool
    samplers: str
    logprobs: int | None


def defaults_of(
    settings: Settings, find_sampler: Find, *, max_new_tokens: int = MAX_NEW_TOKENS
) -> Defaults:
    """The settings as requests have them; a seed is drawn where none is given.

    Args:
        settings: What was given.
        find_sampler: What the names of samplers stand for.
        max_new_tokens: Most tokens of output where the settings do not say.

    Raises:
        UsageError: There is no setting, or no sampler, of a name.
        ParameterError: A value is of another type, or out of its range.
    """
    check_names(settings, Settings.__annotations__)
    given: dict[str, Any] = dict(settings)
    limit = given.pop("max_new_tokens", max_new_tokens)
    check_integer("max_new_tokens", limit, least=1)
    if (logprobs := given.pop("logprobs", None)) is not None:
        check_integer("logprobs", logprobs, least=0)
    stops = texts_of("stop", given.pop("stop", ()))
    if given.get("seed") in (None, RANDOM_SEED):
        given["seed"] = secrets.randbits(32)
    if "dry_sequence_breakers" in given:
        breakers = given["dry_sequence_breakers"]
        given["dry_sequence_breakers"] = texts_of("dry_sequence_breakers", breakers)
    if not isinstance(biases := given.get("logit_bias", {}), Mapping):
        raise ParameterError("logit_bias", biases, "token ids, each with a number: {50256: -100}")
    given["logit_bias"] = tuple(biases.items())
    if not isinstance(ignore := given.get("ignore_eos", False), bool):
        raise ParameterError("ignore_eos", ignore, "True or False")
    if "samplers" in given:
        if not isinstance(order := given["samplers"], str):
            raise ParameterError("samplers", order, "names between semicolons")
        given["samplers"] = stages(order, find_sampler)
    return Defaults(SamplingParams(**given), limit, stops, find_sampler, logprobs)


def named(function: Callable[P, R]) -> Callable[P, R]:
    """A function that says, of a keyword that it does not have, which one may be meant."""
    known = inspect.signature(function).parameters

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        check_names(kwargs, known)
        return function(*args, **kwargs)

    return called


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Makes sure that there are settings of these names.

    Raises:
        UsageError: There is none of one; the nearest is named.
    """
    known = set(known)
    for name in given:
        if name not in known:
            raise unknown_name("setting", name, known)


def check_integer(name: str, value: object, *, least: int) -> None:
    """Makes sure that a setting is an integer.

    Raises:
        ParameterError: It is none, or less than the least.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ParameterError(name, value, f"an integer, {least} or more")


def texts_of(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    """One text or several, none of them empty.

    Raises:
        ParameterError: It is something else.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(t, str) and t for t in texts):
        raise ParameterError(name, value, "a text or a list of texts, none of them empty")
    return tuple(texts)
