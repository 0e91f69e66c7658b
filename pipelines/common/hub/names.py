"""What a user calls a model of the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipelines.common.errors import UsageError, quoted
from pipelines.common.files import exists

PREFIX: Final = "hf:"
"""What says that a name is one of the hub's, whatever paths there are."""

_PART: Final = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?"
_REPO: Final = re.compile(rf"{_PART}/{_PART}")
_WANTED: Final = re.compile(r"[A-Za-z0-9_]+")
_FILES: Final = (".gguf", ".safetensors", ".pth", ".json", ".onnx", ".bin")
"""Endings of what is meant as a file, where nothing says that it is one of the hub."""


@dataclass(frozen=True)
class HubName:
    """A model of the hub, or a file of it.

    Attributes:
        typed: What the user wrote.
        repo: ``owner/name``.
        quantization: The quantization of a GGUF file of it, as ``Q4_K_M``; empty for none.
        file: The file's path in it; empty for none.
    """

    typed: str
    repo: str
    quantization: str = ""
    file: str = ""


def hub_name(path: Path, short_names: Mapping[str, str]) -> HubName | None:
    """The model of the hub that a path stands for; None for a path.

    Something that is there is meant as a path, and so is what ends like a file, unless the name
    begins with ``hf:``.

    Args:
        path: What the user wrote.
        short_names: Names of models, by what they are called for short.

    Raises:
        UsageError: It begins with ``hf:`` and is no name.
    """
    typed = str(path)
    said = typed.startswith(PREFIX)
    if not said and exists(path):
        return None
    name, _, wanted = typed.removeprefix(PREFIX).partition(":")
    repo = short_names.get(name, name)
    owner, _, rest = repo.partition("/")
    base, _, file = rest.partition("/")
    repo = f"{owner}/{base}"
    sound = _REPO.fullmatch(repo) and ".." not in typed and "--" not in repo
    sound = sound and (not wanted or (_WANTED.fullmatch(wanted) is not None and not file))
    if said and not sound:
        raise UsageError(
            f"{quoted(typed)} is no model of the hub; expected hf:owner/name, with a quantization"
            " as in hf:owner/name:Q4_K_M, or with a file as in hf:owner/name/file.gguf"
        )
    if not sound or (not said and (file or name.lower().endswith(_FILES) or exists(Path(owner)))):
        return None
    return HubName(typed, repo, wanted, file)
