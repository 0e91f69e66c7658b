"""Where the prompts of the command line come from."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from pipelines.common.errors import PromptError, UsageError
from pipelines.common.files import open_input
from pipelines.common.utf8 import text_of

DEFAULT_PROMPT = "I believe the meaning of life is"

_MAX_BYTES = 16 << 20
_STREAM = Path("-")


def at_most_one(sources: Mapping[str, bool]) -> None:
    """Refuses a second source of what has one.

    Args:
        sources: Options, and whether each is given.

    Raises:
        UsageError: Two are.
    """
    given = [option for option, is_given in sources.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} are both given; choose one")


def read_prompts(
    texts: Sequence[str], file: Path | None, prompts_file: Path | None, *, default: bool = True
) -> tuple[str, ...]:
    """The prompts from their one source; none if that is a file of prompts, which is not read here.

    Raises:
        UsageError: stdin is given as one prompt of several.
        PromptError: See `read_prompt`.
    """
    if prompts_file is not None:
        return ()
    if len(texts) < 2:
        return (read_prompt(texts[0] if texts else None, file, default=default),)
    if "-" in texts:
        raise UsageError(
            "--prompt - is one of several prompts; to read prompts from stdin, one a line, use"
            " --prompts-file -"
        )
    return tuple(texts)


def read_prompt(text: str | None, file: Path | None, *, default: bool = True) -> str:
    r"""The prompt from its one source.

    That is `text` or the content of `file` (``-`` means stdin), or, with neither, stdin when
    something is piped into it, else the default, if there is one. One newline at the end of a file
    or of stdin is not part of the prompt; lines in it end with ``\n``, see `utf8`.

    Raises:
        PromptError: The prompt is empty, no plain text in UTF-8, or cannot be read.
    """
    if file is not None:
        prompt = read_file(file, "the prompt")
    elif text == "-" or (text is None and _stdin_is_fed()):
        prompt = read_stdin("the prompt")
    else:
        prompt = text if text is not None else DEFAULT_PROMPT if default else ""
    if not prompt:
        raise PromptError("the prompt is empty; give it as --prompt TEXT, --prompt-file or stdin")
    return prompt


def read_file(file: Path, what: str) -> str:
    """All of a file as text, or of stdin (``-``).

    Raises:
        PromptError: It cannot be read, or `what` it holds is too large, or no plain text in UTF-8.
    """
    if file == _STREAM:
        return read_stdin(what)
    try:
        with open_input(file) as stream:
            return _text(stream, str(file))
    except OSError as error:
        raise PromptError(
            f"cannot read {what} from {file}: {error.strerror}; expected a file or a pipe"
        ) from error


def read_stdin(what: str) -> str:
    """All of stdin as text.

    Raises:
        PromptError: stdin is closed, or `what` it holds is too large, or no plain text in UTF-8.
    """
    if sys.stdin is None:
        raise PromptError(f"{what} is to come from stdin, which is closed")
    return _text(sys.stdin.buffer, "stdin")


def _stdin_is_fed() -> bool:
    """Whether stdin is a pipe, a file or a socket: no terminal, no /dev/null, not closed."""
    return sys.stdin is not None and not stat.S_ISCHR(os.fstat(sys.stdin.fileno()).st_mode)


def _text(stream: BinaryIO, source: str) -> str:
    data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise PromptError(
            f"{source} holds more than {_MAX_BYTES >> 20} MiB of text, which is too much"
        )
    try:
        return text_of(data).removesuffix("\n")
    except ValueError as error:
        raise PromptError(f"{source} {error}") from error
