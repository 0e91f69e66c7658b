"""The options of a text-generation pipeline's command, in groups that go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pipelines.common.cli.options import Quiet, Verbose, path_of
from pipelines.common.cli.prompt import DEFAULT_PROMPT, at_most_one, read_prompts


@dataclass(frozen=True)
class PromptOptions:
    """Where the prompts are."""

    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            "-p",
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
    prompt_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A prompt that 'run-pipeline prompts' lists."),
    ] = None
    prompt_menu: Annotated[
        bool, typer.Option("--prompt-menu", help="Choose one of those from a menu.")
    ] = False

    no_special_tokens: Annotated[
        bool, typer.Option("--no-special-tokens", help="Take control tokens in the prompt as text.")
    ] = False

    @property
    def given(self) -> bool:
        """Whether any are."""
        return any(self._sources.values())

    @property
    def _sources(self) -> dict[str, bool]:
        return {
            "--prompt-name": self.prompt_name is not None,
            "--prompt-menu": self.prompt_menu,
            "--prompt": bool(self.prompt),
            "--prompt-file": self.prompt_file is not None,
            "--prompts-file": self.prompts_file is not None,
        }

    def read(self, *, default: bool = True) -> tuple[str, ...]:
        """The prompts, see `read_prompts`; or the one that is called by its name, or chosen.

        Raises:
            UsageError: There is a second source, none of the name, or nothing is chosen.
            PromptError: They cannot be read.
        """
        at_most_one(self._sources)
        if self.prompt_menu or self.prompt_name is not None:
            from pipelines.common.cli.named_prompts import chosen_prompt, named_prompt

            name = self.prompt_name
            return ((chosen_prompt() if name is None else named_prompt(name)).read(),)
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
    n: Annotated[
        int,
        typer.Option(
            "--n",
            min=1,
            metavar="K",
            help="Samples of one prompt, which is computed once; seeds follow each other.",
        ),
    ] = 1
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
        several = (self.batch_size or 1) > 1 or self.n > 1
        return several or bool(self.output or self.ordered or self.resume)


@dataclass(frozen=True)
class TextOptions:
    """How a prompt is continued, and how far."""

    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", min=1, help="Most tokens of output.")
    ] = 256
    max_length: Annotated[
        int | None,
        typer.Option(min=2, help="Most tokens of prompt and output; at most the model's context."),
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End before this text and do not print it; repeatable."),
    ] = None


@dataclass(frozen=True)
class ReportOptions:
    """What is timed, and what is told of a run."""

    num_warmups: Annotated[
        int, typer.Option(min=0, help="Runs of the prompt and one step before the timed one.")
    ] = 0
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record instead of the text.")
    ] = False
    logprobs: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Records tell each token's log-probability, and those of the N likeliest there.",
            show_default=False,
        ),
    ] = None
    quiet: Quiet = False
    verbose: Verbose = False

    @property
    def for_one_message(self) -> str | None:
        """An option that was given and has no meaning in a conversation."""
        given = {
            "--json": self.as_json,
            "--num-warmups": self.num_warmups > 0,
            "--logprobs": self.logprobs is not None,
        }
        return next((option for option, is_given in given.items() if is_given), None)
