"""Where the messages of a conversation come from: a terminal with line editing, or a pipe."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from pipelines.common.cli.streams import terminal
from pipelines.common.errors import PromptError
from pipelines.common.files import folder_of_user
from pipelines.common.utf8 import text_of

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

HISTORY_VARIABLE: Final = "RUN_PIPELINE_CHAT_HISTORY"
"""Names the file that keeps what was typed; an empty value keeps nothing."""

_QUOTES: Final = '"""'
_MAX_BYTES: Final = 16 << 20


class Lines(Protocol):
    """Gives one message after the other."""

    def read(self) -> str | None:
        """The next message; None at the end."""


@contextmanager
def keys_unseen() -> Iterator[None]:
    """Wherein a terminal does not show what is typed ahead, in the middle of a reply."""
    descriptor = None if sys.stdin is None or not sys.stdin.isatty() else sys.stdin.fileno()
    if descriptor is None:
        yield
        return
    before = termios.tcgetattr(descriptor)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(descriptor, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


class PipedLines:
    """Messages of stdin: a line each, or several between lines that begin and end with quotes."""

    def read(self) -> str | None:
        """The next message.

        Raises:
            PromptError: stdin is no text in UTF-8, or a line is too long.
        """
        line = self._line()
        if line is None or not line.lstrip().startswith(_QUOTES):
            return line
        text = line.lstrip()[len(_QUOTES) :]
        while not text.rstrip().endswith(_QUOTES):
            line = self._line()
            if line is None:
                return text
            text += f"\n{line}"
        return text.rstrip()[: -len(_QUOTES)].strip("\n")

    def _line(self) -> str | None:
        if sys.stdin is None:
            return None
        line = sys.stdin.buffer.readline(_MAX_BYTES + 1)
        if len(line) > _MAX_BYTES:
            raise PromptError(f"a line of stdin has more than {_MAX_BYTES >> 20} MiB; shorten it")
        try:
            return text_of(line).removesuffix("\n") if line else None
        except ValueError as error:
            raise PromptError(f"stdin {error}") from error


class TypedLines:
    """Messages that a person types, with the keys of Emacs and a history.

    Enter sends; Alt-Enter begins another line, and so does whatever is pasted. Ctrl-C drops what
    was typed, Ctrl-D ends the conversation.

    Args:
        commands: Words that are completed.
        notice: Told, in one line, that what is typed cannot be kept.
    """

    def __init__(self, commands: Iterable[str], notice: Callable[[str], None]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.input import create_input
        from prompt_toolkit.output import create_output

        self._session: PromptSession[str] = PromptSession(
            "> ",
            multiline=True,
            prompt_continuation="  ",
            key_bindings=_keys(),
            history=_history(notice),
            completer=WordCompleter(sorted(commands), sentence=True),
            complete_while_typing=False,
            enable_open_in_editor=False,
            input=create_input(sys.stdin),
            # Standard output may be a file that replies go to.
            output=create_output(terminal() or sys.stderr),
        )
        self._notice = notice

    def read(self) -> str | None:
        """The next message."""
        try:
            return self._session.prompt()
        except EOFError:
            return None
        except KeyboardInterrupt:
            if not self._session.default_buffer.text:
                self._notice("Ctrl-D or /exit ends the conversation")
            return ""


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _history(notice: Callable[[str], None]) -> History:
    """What was typed in this conversation and those before it."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    stated = os.environ.get(HISTORY_VARIABLE)
    if stated == "":
        return InMemoryHistory()
    try:
        path = Path(stated).expanduser() if stated else _of_user()
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except (OSError, RuntimeError) as error:
        notice(f"what is typed is not kept for the next time: {error}")
        return InMemoryHistory()
    return FileHistory(str(path))


def _of_user() -> Path:
    """The file of the user's own, among those that programs keep their state in."""
    folder = folder_of_user("XDG_STATE_HOME", ".local/state")
    return folder / "pipeline-driver" / "chat-history"
