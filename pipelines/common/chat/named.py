"""Templates that users name: their own files, and the common ones that ship with the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipelines.common.chat.template import ChatTemplate
from pipelines.common.errors import TemplateError
from pipelines.common.files import exists, read_document
from pipelines.common.utf8 import text_of

NAMES: Final = ("chatml", "gemma", "llama2", "llama3", "mistral", "phi3")
"""Templates of the folder beside this file."""

_FOLDER: Final = Path(__file__).with_name("templates")
_MOST_BYTES: Final = 1 << 20


def named_template(name: Path) -> ChatTemplate:
    """The template that a user names.

    Args:
        name: One of `NAMES`, or a file; of a file that is called like one, the file.

    Raises:
        TemplateError: There is none, or it cannot be used.
    """
    if str(name) in NAMES and not exists(name):
        return shipped_template(str(name))
    try:
        text = text_of(read_document(name, _MOST_BYTES))
    except OSError as error:
        raise TemplateError(
            f"cannot read the chat template {name}: {error.strerror}; expected a file, or one of"
            f" {', '.join(NAMES)}"
        ) from error
    except ValueError as error:
        raise TemplateError(f"the chat template {name} {error}") from error
    return ChatTemplate(text, f"file {name}")


def shipped_template(name: str) -> ChatTemplate:
    """One of `NAMES`, also where there is a file that is called like it."""
    text = (_FOLDER / f"{name}.jinja").read_text("utf-8")
    return ChatTemplate(text, f"the name {name}")
