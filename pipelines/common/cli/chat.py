"""A conversation with a model, from the first message to the last."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from pipelines.common.cli.chat_commands import COMMANDS, ChatCommands, EndOfChat
from pipelines.common.cli.chat_input import Lines, PipedLines, TypedLines, keys_unseen
from pipelines.common.cli.console import ConsoleProgress, say
from pipelines.common.cli.replies import shown_reply
from pipelines.common.cli.signals import ending_a_part
from pipelines.common.cli.streams import stdout_is_closed
from pipelines.common.engine.shared import SharedEngine
from pipelines.common.errors import PipelineError, TooLongError, UsageError
from pipelines.common.requests.prompts import PromptReader
from pipelines.common.requests.session import USUAL_REPLY, ChatSession, usual_length
from pipelines.common.requests.text import Defaults
from pipelines.common.text_generation import TextModel


@dataclass(frozen=True)
class Conversation:
    """What a conversation is like.

    Attributes:
        name: What the model is called.
        system: What the model is told before the first message; None for nothing.
        defaults: How replies are chosen.
        usual_reply: Whether nobody has said how long a reply may get.
        max_length: Most tokens of the conversation; None for the model's context, or what is usual.
        hide_thinking: Whether what the model thinks is left out.
    """

    name: str
    system: str | None
    defaults: Defaults
    usual_reply: bool
    max_length: int | None
    hide_thinking: bool


def converse(
    model: TextModel, reader: PromptReader, asked: Conversation, progress: ConsoleProgress
) -> None:
    """Replies to one message after the other, from a terminal or from a pipe.

    Ctrl-C ends a reply, which is kept as far as it has come. What is wrong with a message or a
    command is told, and the conversation goes on; from a pipe it is an error.

    Args:
        model: The model.
        reader: Makes tokens of conversations.
        asked: What it is to be like.
        progress: Told of everything that takes time.

    Raises:
        UsageError: stdout is closed, or the length is beyond the model's context.
        PipelineError: A message of a pipe cannot be answered.
        OutputError: stdout cannot be written to.
    """
    if stdout_is_closed():
        raise UsageError("the replies are to go to stdout, which is closed; leave it open")
    length = usual_length(asked.max_length, model.context_length)
    runner = model.start(slots=1, max_length=length)
    defaults = asked.defaults
    if asked.usual_reply:
        defaults = replace(defaults, max_new_tokens=USUAL_REPLY)
    engine = SharedEngine(runner, model.tokenizer)
    session = ChatSession(engine, reader, system=asked.system, defaults=defaults, max_length=length)
    commands = ChatCommands(session, asked.name, progress.notice_again)
    typed = sys.stdin is not None and sys.stdin.isatty()
    lines: Lines = PipedLines()
    if typed:
        room = f"{length:,}" + (f" of {model.context_length:,}" * (length < model.context_length))
        progress.notice(
            f"{asked.name} listens, with room for {room} tokens; /help tells what can be typed"
        )
        lines = TypedLines(COMMANDS, progress.notice)
    while (line := lines.read()) is not None:
        try:
            _answer(line, session, commands, asked, progress)
        except EndOfChat:
            return
        except PipelineError as error:
            if not typed:
                raise
            say(f"error: {_with_a_way_on(error)}")


def _answer(
    line: str,
    session: ChatSession,
    commands: ChatCommands,
    asked: Conversation,
    progress: ConsoleProgress,
) -> None:
    """Replies to a message, or does what a command says."""
    said = line
    if line.startswith("/"):
        again = commands.run(line)
        if again is None:
            return
        said = again.text
    if not said.strip():
        return
    sequence = session.begin(said)
    shown = shown_reply(session.prompt_end, hide_thinking=asked.hide_thinking, ended=True)
    with keys_unseen(), ending_a_part() as interrupted:
        for text in session.reply(said, interrupted):
            shown.write(text)
        shown.end()
    if sequence.finish_reason == "length":
        full = len(sequence.prompt) + len(sequence.tokens) >= session.max_length
        progress.notice_again(
            "the conversation has no room left; /undo takes the last exchange back, /reset begins"
            " anew"
            if full
            else f"the reply ends at {len(sequence.tokens):,} tokens; /set max_new_tokens allows"
            " more"
        )


def _with_a_way_on(error: PipelineError) -> str:
    if not isinstance(error, TooLongError):
        return str(error)
    return f"{error}, or go on after /undo or /reset"
