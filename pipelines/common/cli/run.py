"""One generation, from the prompt's text to the figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipelines.common.chat.thinking import spoken
from pipelines.common.cli.continuation import Continuation
from pipelines.common.cli.replies import PlainText, Shown, shown_reply
from pipelines.common.cli.report import figures_of, print_figures
from pipelines.common.cli.signals import noted
from pipelines.common.cli.streams import on_terminal, print_json, stdout_is_closed
from pipelines.common.engine.engine import Engine, warm_up
from pipelines.common.engine.metrics import Metrics, process_age_s
from pipelines.common.engine.sequence import TextSequence
from pipelines.common.errors import UsageError
from pipelines.common.progress import Progress
from pipelines.common.requests.logprobs import position_records, positions
from pipelines.common.requests.prompts import PromptReader
from pipelines.common.requests.text import TextRequest
from pipelines.common.text_generation import TextModel


@dataclass(frozen=True)
class Generation:
    """What to generate.

    Attributes:
        text: What to continue, or what is said, and how.
        reader: Makes tokens of it.
        hide_thinking: Whether what the model thinks before it replies is left out.
        max_length: Most tokens of prompt and output; None for the model's context.
        num_warmups: Untimed runs of the prompt and one step before the timed one.
    """

    text: TextRequest
    reader: PromptReader
    hide_thinking: bool
    max_length: int | None
    num_warmups: int


def run(
    model: TextModel, asked: Generation, progress: Progress, *, as_json: bool, figures: bool
) -> TextSequence:
    """Generates text to stdout as it comes, or a JSON record at the end; figures to stderr.

    On a terminal the text is ended with a newline. Ctrl-C ends the sequence as ``interrupted``
    before its next token, or the next part of a long prompt; a second one ends the program at once.

    Raises:
        UsageError: stdout is closed, a length is beyond the model's context, or a stop string is
            empty.
        OutputError: stdout cannot be written to.
        PromptError: The prompt leaves no room for output.
        ModelFileError: The model computes what is no number.
    """
    if stdout_is_closed():
        raise UsageError("the text is to go to stdout, which is closed; leave it open")
    max_length = length_in_context(asked.max_length, model.context_length)
    reader = asked.reader
    request = asked.text.encoded(reader, max_length)
    if reader.conversation(asked.text.prompt) is None and _could_chat(reader, request.prompt):
        progress.notice("the model has a chat template: to ask it something, add `chat=True`")
    runner = model.start(slots=1, max_length=request.max_length)
    if asked.num_warmups:
        with progress.shown("Warming up"):
            for _ in range(asked.num_warmups):
                warm_up(runner, request.prompt)

    engine = Engine(runner, model.tokenizer)
    sequence = engine.add(request)
    prompt = model.tokenizer.decode(request.prompt[-16:], special=True) if reader.asks else ""
    written: list[str] = []
    shown: Shown | None = None
    write = written.append
    process_to_first_token_s = None
    with noted() as interrupted:
        texts = _texts(engine, interrupted)
        with progress.shown("Reading the prompt"):
            first = next((text for text in texts if sequence.timings.first_token_s is not None), "")
        if sequence.timings.first_token_s is not None:
            process_to_first_token_s = process_age_s()
        if not as_json and sequence.error is None:
            shown = _shown(asked, prompt, echoes=figures)
            write = shown.write
        write(first)
        for text in texts:
            write(text)
        if sequence.finish_reason is None:
            write(engine.cancel(sequence))
        if shown is not None and sequence.error is None:
            shown.end()
    if sequence.error is not None:
        raise sequence.error

    metrics = Metrics.of(sequence, progress, process_to_first_token_s)
    if as_json:
        text = "".join(written)
        told = positions(sequence, model.tokenizer)
        record = {
            "text": spoken(text, prompt) if asked.hide_thinking else text,
            **metrics.as_json(),
            **({} if told is None else {"logprobs": position_records(told)}),
            "sampling": request.sampling.as_json(),
            **model.describe(),
        }
        print_json(record, indented=False)
    if progress.verbose:  # a description has the digest of the model file, which takes reading it
        for key, value in model.describe().items():
            progress.detail(f"{key}: {value if isinstance(value, str) else json.dumps(value)}")
    if figures:
        print_figures(figures_of(metrics))
    return sequence


def _shown(asked: Generation, context: str, *, echoes: bool) -> Shown:
    """Where the text goes.

    Args:
        asked: What it is an answer to, or continues.
        context: The end of what it follows; empty where nobody asks.
        echoes: Whether a terminal shows the prompt that is continued.
    """
    if asked.reader.asks:
        return shown_reply(context, hide_thinking=asked.hide_thinking)
    if not on_terminal():
        return PlainText()
    prompt = asked.text.prompt
    return Continuation(prompt if echoes and isinstance(prompt, str) else "")


def length_in_context(requested: int | None, context_length: int) -> int:
    """The most tokens of a prompt and its output: what was asked for, or the model's context.

    Raises:
        UsageError: It is beyond the model's context.
    """
    if requested is not None and requested > context_length:
        raise UsageError(
            f"--max-length is {requested}, but the model's context is {context_length} tokens"
        )
    return context_length if requested is None else requested


def _could_chat(reader: PromptReader, tokens: Sequence[int]) -> bool:
    """Whether a prompt of a model for conversations is none: no turn begins in it."""
    control = reader.tokenizer.control_tokens.keys() - {reader.tokenizer.bos_id}
    return reader.settings.template is not None and control.isdisjoint(tokens)


def _texts(engine: Engine, interrupted: Callable[[], bool]) -> Iterator[str]:
    """What each step has given, up to the one in which the run was interrupted."""
    while not engine.idle:
        for event in engine.step():
            yield event.text
        if interrupted():
            return
