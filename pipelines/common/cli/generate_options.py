"""The options of a text-generation pipeline's command, in groups that go together."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.common.cli.options import Quiet, Verbose, path_of
from pipelines.common.cli.prompt import DEFAULT_PROMPT, read_prompts

if TYPE_CHECKING:
    from pipelines.common.requests.text import Defaults


@dataclass(frozen=True)
class PromptOptions:
    """Where the prompts are."""

    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="What to continue; '-' reads stdin, as does a pipe when no prompt is given;"
            " repeatable, several are a batch.",
            show_default=DEFAULT_PROMPT,
        ),
    ] = None
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--prompt-file"), metavar="FILE", help="Read the prompt from a file."
        ),
    ] = None
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--prompts-file"),
            metavar="FILE",
            help="A batch of prompts: JSON Lines, or text with one a line; '-' reads stdin.",
        ),
    ] = None

    no_special_tokens: Annotated[
        bool, typer.Option("--no-special-tokens", help="Take control tokens in the prompt as text.")
    ] = False

    @property
    def given(self) -> bool:
        """Whether any are."""
        return bool(self.prompt or self.prompt_file or self.prompts_file)

    def read(self, *, default: bool = True) -> tuple[str, ...]:
        """The prompts, see `read_prompts`."""
        return read_prompts(self.prompt or (), self.prompt_file, self.prompts_file, default=default)


@dataclass(frozen=True)
class BatchOptions:
    """How many prompts are computed at once, and where the results go.

    A `batch_size` of None is the default; an `output` of None is stdout, which shows people text.
    """

    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Sequences computed side by side, 8 in a batch; one prompt is continued so often.",
            show_default=False,
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--output"),
            metavar="FILE",
            help="Where a batch's records go, JSON Lines; '-' is stdout, the default.",
        ),
    ] = None
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Records in the order of the prompts.")
    ] = False
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish an --output that an earlier run has begun.")
    ] = False

    @property
    def asked_for(self) -> bool:
        """Whether one prompt is a batch too."""
        return (self.batch_size or 1) > 1 or bool(self.output or self.ordered or self.resume)


@dataclass(frozen=True)
class TextOptions:
    """How a prompt is continued, and how far."""

    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of output.")] = 256
    max_length: Annotated[
        int | None,
        typer.Option(min=2, help="Most tokens of prompt and output; at most the model's context."),
    ] = None
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
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1 makes tokens less likely that occurred before.")
    ] = 1.0
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same text; random by default, and for -1.")
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End before this text and do not print it; repeatable."),
    ] = None

    @property
    def asked_seed(self) -> int | None:
        """The seed, if one was asked for."""
        from pipelines.common.engine.sampling import RANDOM_SEED

        return None if self.seed == RANDOM_SEED else self.seed

    def defaults(self) -> Defaults:
        """What holds for prompts that say nothing else; a seed is drawn where none is asked for.

        Raises:
            ParameterError: A value is out of its range.
        """
        from pipelines.common.engine.sampling import SamplingParams
        from pipelines.common.requests.text import Defaults

        sampling = SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=secrets.randbits(32) if self.asked_seed is None else self.asked_seed,
        )
        return Defaults(sampling, self.max_new_tokens, tuple(self.stop or ()))


@dataclass(frozen=True)
class ReportOptions:
    """What is timed, and what is told of a run."""

    num_warmups: Annotated[
        int, typer.Option(min=0, help="Runs of the prompt and one step before the timed one.")
    ] = 0
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record instead of the text.")
    ] = False
    quiet: Quiet = False
    verbose: Verbose = False
