"""Prompts by name: those that ship with the project, and the user's own, a file each."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipelines.common.cli.console import say
from pipelines.common.cli.prompt import read_file
from pipelines.common.errors import PromptError, UsageError
from pipelines.common.escapes import printable
from pipelines.common.files import folder_of_user, typed_path
from pipelines.common.registry.entries import unknown_name

FOLDER_VARIABLE: Final = "RUN_PIPELINE_PROMPTS"
"""Names the folder of the user's own prompts."""

_SHIPPED: Final = Path(__file__).with_name("prompts")
_SUFFIX: Final = ".txt"
_SHOWN_CHARACTERS: Final = 48
"""With a number, a name and whose it is they fit into 80 columns."""


@dataclass(frozen=True)
class NamedPrompt:
    """A prompt that is called by a name.

    Attributes:
        name: The file's, without ``.txt``.
        path: The file.
        own: Whether it is the user's.
    """

    name: str
    path: Path
    own: bool

    def read(self) -> str:
        """The text, without a newline at its end.

        Raises:
            PromptError: The file cannot be read, is empty, or no plain text in UTF-8.
        """
        text = read_file(self.path, f"prompt {self.name}")
        if not text:
            raise PromptError(f"{self.path} is empty; expected a prompt")
        return text

    def preview(self) -> str:
        """The first line that says something, cut where it gets long, or why there is none."""
        try:
            lines = self.read().splitlines()
        except PromptError as error:
            return printable(f"unusable: {error}")
        return printable(next(filter(str.strip, lines), ""), _SHOWN_CHARACTERS)


def named_prompts() -> Mapping[str, NamedPrompt]:
    """All prompts by name, in its order; a user's own has its name before one that ships.

    Raises:
        UsageError: The user's folder cannot be read.
    """
    shipped = {path.stem: NamedPrompt(path.stem, path, False) for path in _files(_SHIPPED)}
    own = {path.stem: NamedPrompt(path.stem, path, True) for path in _own_files()}
    return dict(sorted({**shipped, **own}.items()))


def named_prompt(name: str) -> NamedPrompt:
    """The prompt of a name.

    Raises:
        UsageError: There is none; the nearest is named.
    """
    prompts = named_prompts()
    if name not in prompts:
        raise unknown_name("prompt", name, prompts)
    return prompts[name]


def menu(prompts: Mapping[str, NamedPrompt]) -> list[str]:
    """A line for each prompt: name, beginning, and whose it is."""
    width = max(map(len, prompts), default=0)
    return [
        f"{printable(name):<{width}}  {prompt.preview()}{' [yours]' * prompt.own}"
        for name, prompt in prompts.items()
    ]


def chosen_prompt() -> NamedPrompt:
    """The prompt that the user chooses on the terminal, by its number or name.

    Raises:
        UsageError: Nobody can choose, or nothing is chosen.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("--prompt-menu is for a terminal; name a prompt with --prompt-name")
    prompts = named_prompts()
    for number, line in enumerate(menu(prompts), 1):
        print(f"{number:>3}  {line}", file=sys.stderr)
    while True:
        print("Number or name: ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:
            raise UsageError("no prompt was chosen")
        name = answer.strip()
        if name.isdecimal() and 0 < int(name) <= len(prompts):
            return [*prompts.values()][int(name) - 1]
        if name in prompts:
            return prompts[name]
        if name:
            say(str(unknown_name("prompt", name, prompts)))


def own_folder() -> Path | None:
    """Where the user's own prompts are; None where there is no place for them.

    Raises:
        UsageError: The variable names no path.
    """
    if stated := os.environ.get(FOLDER_VARIABLE):
        try:
            return typed_path(stated)
        except ValueError as error:
            raise UsageError(f"{FOLDER_VARIABLE} {error}") from error
    try:
        folder = folder_of_user("XDG_CONFIG_HOME", ".config")
    except RuntimeError:  # there is no home
        return None
    return folder / "pipeline-driver" / "prompts"


def _own_files() -> list[Path]:
    folder = own_folder()
    if folder is None:
        return []
    try:
        return _files(folder)
    except FileNotFoundError:
        if FOLDER_VARIABLE not in os.environ:
            return []
        raise UsageError(f"{FOLDER_VARIABLE} names {folder}, which is not there") from None
    except OSError as error:
        raise UsageError(f"cannot read the prompts in {folder}: {error.strerror}") from error


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.iterdir()
        if path.suffix == _SUFFIX and not path.name.startswith(".")
    ]
