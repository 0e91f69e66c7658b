"""What can be typed in a conversation beside messages: lines that begin with a slash."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pipelines.common.engine.metrics import rate
from pipelines.common.errors import ParameterError, PromptError, UsageError
from pipelines.common.escapes import printable_lines
from pipelines.common.files import read_document, typed_path, write_output
from pipelines.common.registry.entries import unknown_name
from pipelines.common.requests.fields import read_sampling
from pipelines.common.requests.messages import read_messages
from pipelines.common.requests.session import ChatSession
from pipelines.common.requests.text import Defaults
from pipelines.common.requests.values import RequestError, shown

_MAX_BYTES: Final = 64 << 20
_LIMIT: Final = "max_new_tokens"


class EndOfChat(Exception):  # noqa: N818 - it is no error
    """The conversation is to end."""


@dataclass(frozen=True)
class Again:
    """What is to be said once more.

    Attributes:
        text: The message.
    """

    text: str


@dataclass(frozen=True)
class Command:
    """Something that can be typed.

    Attributes:
        argument: What follows it, for the help.
        summary: What it does.
        run: Does it, given what follows; returns a message that is to be put to the model.
    """

    argument: str
    summary: str
    run: Callable[[ChatCommands, str], Again | None]


class ChatCommands:
    """Does what lines that begin with a slash ask for.

    Args:
        session: The conversation.
        model: What the model is called in saved conversations.
        notice: Told what the user should know.
    """

    def __init__(self, session: ChatSession, model: str, notice: Callable[[str], None]) -> None:
        self._session = session
        self._model = model
        self._notice = notice

    def run(self, line: str) -> Again | None:
        """Does what a line asks for.

        Returns:
            A message that is to be put to the model, if that was asked for.

        Raises:
            EndOfChat: The conversation is to end.
            UsageError: There is no such command, or it is used in another way.
            PromptError: A file cannot be read, or has no conversation.
        """
        name, _, argument = line.strip().partition(" ")
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        return COMMANDS[name].run(self, argument.strip())

    def help(self, _: str) -> None:
        """Tells what can be typed."""
        width = max(len(f"{name} {each.argument}") for name, each in COMMANDS.items())
        rows = (
            f"{f'{name} {each.argument}':<{width}}  {each.summary}"
            for name, each in COMMANDS.items()
        )
        tell(
            *rows,
            "Enter sends, Alt-Enter begins another line. Ctrl-C ends a reply, Ctrl-D the"
            " conversation.",
        )

    def system(self, text: str) -> None:
        """Shows or changes what the model is told before the conversation."""
        if not text:
            tell(self._session.system or "there is no system prompt")
            return
        self._session.system = None if text == "none" else text
        self._notice("the model is told so from the next message on, as of the whole conversation")

    def reset(self, _: str) -> None:
        """Begins anew."""
        self._session.reset()
        self._notice("the conversation begins anew")

    def undo(self, _: str) -> None:
        """Takes the last exchange back."""
        exchange = self._session.undo()
        if exchange is None:
            raise UsageError("there is nothing to take back")
        self._notice(f"taken back: {shown(exchange.said)}")

    def regenerate(self, _: str) -> Again:
        """Has the last message answered again."""
        exchange = self._session.undo()
        if exchange is None:
            raise UsageError("there is no reply yet")
        if not self._session.defaults.sampling.temperature:
            self._notice("the reply is the same: the temperature is 0, see /set")
        return Again(exchange.said)

    def save(self, name: str) -> None:
        """Writes the conversation to a file."""
        path = _path(name, "/save")
        messages = [dataclasses.asdict(message) for message in self._session.messages]
        document = {"model": self._model, "messages": messages}
        try:
            write_output(path, f"{json.dumps(document, indent=1)}\n".encode())
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        self._notice(f"saved {len(messages)} messages")

    def load(self, name: str) -> None:
        """Goes on from a conversation of a file."""
        path = _path(name, "/load")
        try:
            document = json.loads(read_document(path, _MAX_BYTES))
            listed = document.get("messages") if isinstance(document, dict) else document
            self._session.restore(read_messages(listed))
        except OSError as error:
            raise PromptError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, RecursionError, RequestError, PromptError) as error:
            raise PromptError(f"{path} holds no conversation: {error}") from error
        model = document.get("model") if isinstance(document, dict) else None
        if model is not None and model != self._model:
            self._notice(f"the conversation was with another model, {shown(model)}")
        self._notice(f"loaded {len(self._session.messages)} messages")

    def stats(self, _: str) -> None:
        """Tells the figures of the last reply."""
        last = self._session.last
        if last is None or last.finish_reason is None:
            raise UsageError("there is no reply yet")
        computed = len(last.prompt) - last.shared_tokens
        held = len(last.prompt) + len(last.tokens)
        tell(
            f"prompt        {len(last.prompt):,} tokens: {last.shared_tokens:,} were there from the"
            f" turn before, {computed:,} computed{_speed(computed, last.timings.prefill_s)}",
            f"reply         {len(last.tokens):,} tokens"
            f"{_speed(last.timings.decode_steps, last.timings.decode_s)}",
            f"conversation  {held:,} of {self._session.max_length:,} tokens",
        )

    def set(self, argument: str) -> None:
        """Shows or changes how replies are chosen."""
        name, _, value = argument.partition(" ")
        if not name:
            tell(*(f"{name} {shown(value)}" for name, value in self._settings().items()))
            return
        name = name.replace("-", "_")
        if name not in self._settings():
            raise unknown_name("setting", name, self._settings())
        if not value.strip():
            tell(f"{name} {shown(self._settings()[name])}")
            return
        self._session.defaults = _with(self._session.defaults, name, _value(value.strip()))

    def exit(self, _: str) -> None:
        """Ends the conversation."""
        raise EndOfChat

    def _settings(self) -> dict[str, Any]:
        defaults = self._session.defaults
        return {**defaults.sampling.as_json(), _LIMIT: defaults.max_new_tokens}


COMMANDS: Final = {
    "/help": Command("", "shows this", ChatCommands.help),
    "/system": Command("[TEXT]", "shows or changes the system prompt", ChatCommands.system),
    "/reset": Command("", "forgets what was said", ChatCommands.reset),
    "/undo": Command("", "takes the last exchange back", ChatCommands.undo),
    "/regenerate": Command("", "has the last message answered again", ChatCommands.regenerate),
    "/save": Command("FILE", "writes the conversation, as JSON", ChatCommands.save),
    "/load": Command("FILE", "goes on from a saved one", ChatCommands.load),
    "/stats": Command("", "figures of the last reply", ChatCommands.stats),
    "/set": Command(
        "[NAME VALUE]", "shows or changes a setting: /set temperature 0.7", ChatCommands.set
    ),
    "/exit": Command("", "ends the conversation", ChatCommands.exit),
}


def tell(*lines: str) -> None:
    """Writes lines for people to stderr: standard output has the replies."""
    for line in lines:
        print(printable_lines(line), file=sys.stderr, flush=True)


def _with(defaults: Defaults, name: str, value: Any) -> Defaults:
    if name != _LIMIT:
        try:
            return replace(defaults, sampling=read_sampling({name: value}, defaults))
        except RequestError as error:
            raise UsageError(str(error)) from error
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ParameterError(name, value, "an integer, 1 or more")
    return replace(defaults, max_new_tokens=value)


def _value(text: str) -> Any:
    """A setting's value, as JSON has it, or a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _path(name: str, command: str) -> Path:
    try:
        return typed_path(name)
    except ValueError as error:
        raise UsageError(f"the file of {command} {error}") from error


def _speed(count: int, seconds: float) -> str:
    speed = rate(count, seconds)
    return "" if speed is None else f", {speed:,.1f} tok/s"
