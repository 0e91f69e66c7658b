"""How tokens are chosen: the options of it, in the order of the default samplers."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pipelines.common.errors import UsageError

if TYPE_CHECKING:
    from pipelines.common.engine.sampling import SamplingParams
    from pipelines.common.registry.registry import Registry

ORDER: Final = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"
"""What `pipelines.common.engine.sampling.order` has, which takes NumPy to import."""

_BIAS: Final = re.compile(r"(\d{1,18})([+-](?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.ASCII)
_NO_BREAKERS: Final = "none"


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are chosen."""

    temperature: Annotated[
        float, typer.Option(help="Divides the logits; 0 takes the most likely token.")
    ] = 0.0
    top_k: Annotated[int, typer.Option(help="Sample from the k most likely; 0 or -1 is off.")] = 0
    top_p: Annotated[
        float, typer.Option(help="Sample from the fewest tokens of this joint probability.")
    ] = 1.0
    min_p: Annotated[
        float, typer.Option(help="Sample from tokens this likely, relative to the likeliest.")
    ] = 0.0
    typical_p: Annotated[
        float, typer.Option(help="Sample from the most typical tokens of this joint probability.")
    ] = 1.0
    top_n_sigma: Annotated[
        float,
        typer.Option(help="Sample from logits so many deviations from the largest; 0 is off."),
    ] = 0.0
    xtc_probability: Annotated[
        float, typer.Option(help="How often the likeliest tokens but one are left out.")
    ] = 0.0
    xtc_threshold: Annotated[
        float, typer.Option(help="From which probability on they are; above 0.5 is off.")
    ] = 0.1
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1 makes tokens less likely that occurred before.")
    ] = 1.0
    presence_penalty: Annotated[
        float, typer.Option(help="Taken from the logits of tokens that occurred before.")
    ] = 0.0
    frequency_penalty: Annotated[
        float, typer.Option(help="Taken from them for each time that they did.")
    ] = 0.0
    repeat_last_n: Annotated[
        int, typer.Option(help="How many tokens these three look back on; -1 for all.")
    ] = -1
    dry_multiplier: Annotated[
        float, typer.Option(help="Penalty for going on with a repeated sequence; 0 is off.")
    ] = 0.0
    dry_base: Annotated[
        float, typer.Option(help="Multiplies that for each token beyond the allowed length.")
    ] = 1.75
    dry_allowed_length: Annotated[
        int, typer.Option(help="Length from which on a repeated sequence is penalized.")
    ] = 2
    dry_penalty_last_n: Annotated[
        int, typer.Option(help="How many tokens are searched for repetitions; -1 for all.")
    ] = -1
    dry_sequence_breaker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Text that ends sequences, repeatable; 'none' for nothing.",
            show_default=r"\n : \" *",
        ),
    ] = None
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(metavar="ID(+/-)BIAS", help="Add to a token's logit, as 15043-1; repeatable."),
    ] = None
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Never choose a token that ends the text.")
    ] = False
    samplers: Annotated[
        str, typer.Option(metavar="NAMES", help="Samplers and their order, see 'list'.")
    ] = ORDER
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same text; random by default, and for -1.")
    ] = None

    @property
    def asked_seed(self) -> int | None:
        """The seed, if one was asked for."""
        from pipelines.common.engine.sampling import RANDOM_SEED

        return None if self.seed == RANDOM_SEED else self.seed

    def params(self, registry: Registry) -> SamplingParams:
        """The settings; a seed is drawn where none is asked for.

        Args:
            registry: Has the samplers.

        Raises:
            UsageError: A value is out of its range, or there is no sampler of a name.
        """
        from pipelines.common.engine.sampling import SamplingParams
        from pipelines.common.engine.sampling.dry import BREAKERS
        from pipelines.common.engine.sampling.order import stages

        given = {field.name: getattr(self, field.name) for field in fields(self)}
        breakers = given.pop("dry_sequence_breaker")
        none = breakers == [_NO_BREAKERS]
        given["dry_sequence_breakers"] = () if none else tuple(breakers or BREAKERS)
        given["logit_bias"] = tuple(_biases(self.logit_bias or ()))
        given["samplers"] = stages(self.samplers, registry.load_sampler)
        given["seed"] = secrets.randbits(32) if self.asked_seed is None else self.asked_seed
        return SamplingParams(**given)


def _biases(texts: Iterable[str]) -> Iterator[tuple[int, float]]:
    """The tokens and what is added to the logit of each; the last counts where one is named twice.

    Raises:
        UsageError: A text has another form.
    """
    biases: dict[int, float] = {}
    for text in texts:
        match = _BIAS.fullmatch(text)
        if match is None:
            raise UsageError(
                f"--logit-bias is {text!r}; expected a token's id and what is added to its logit,"
                " as 15043-1 or 15043+0.5; 'tokenize' shows ids"
            )
        biases[int(match[1])] = float(match[2])
    yield from biases.items()
