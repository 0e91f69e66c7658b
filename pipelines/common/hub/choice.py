"""Which files of a repository are the model that is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from pipelines.common.errors import HubError, listed
from pipelines.common.hub.names import HubName

_PART: Final = re.compile(r"-(\d{5})-of-\d{5}(\.gguf)$", re.IGNORECASE)
_QUANTIZATION: Final = re.compile(
    r"(?:^|[-._/])((?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|BF16|F16|F32))(?=[-./]|$)", re.IGNORECASE
)

_CONFIG: Final = "config.json"
_FOLDER: Final = (
    _CONFIG,
    "1_Pooling/config.json",
    "chat_template.jinja",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.txt",
)
"""What is read of a folder of the hub."""


class Choice(NamedTuple):
    """What is to be fetched.

    Attributes:
        files: All files, by their paths in the repository.
        model: The one that is the model; empty where that is the folder.
    """

    files: list[str]
    model: str


def choose(name: HubName, files: Iterable[str]) -> Choice:
    """The files of the model that a name stands for.

    Args:
        name: The name.
        files: Paths of all files that there are.

    Raises:
        HubError: There is no such file or quantization, or there are several models to choose from.
    """
    there = sorted(files)
    if name.file:
        if name.file not in there:
            raise HubError(f"{name.repo} has no file {name.file}; it has {listed(there)}")
        return Choice(_with_parts(name.file, there), name.file)
    models = _gguf_models(there)
    if name.quantization:
        wanted = name.quantization.lower()
        found = [file for file, kind in models.items() if kind.lower() == wanted]
        if len(found) != 1:
            kinds = [*models.values()] or ["no GGUF files"]
            said = f"{len(found)} files" if found else "nothing"
            raise HubError(
                f"{name.repo} has {said} in {name.quantization}; there are {listed(kinds)}"
            )
        return Choice(_with_parts(found[0], there), found[0])
    if _CONFIG in there and any(fnmatchcase(file, "model*.safetensors") for file in there):
        matching = [f for f in there if any(fnmatchcase(f, pattern) for pattern in _FOLDER)]
        return Choice(matching, "")
    if len(models) == 1:
        model = next(iter(models))
        return Choice(_with_parts(model, there), model)
    if models:
        kinds = [kind for kind in models.values() if kind] or [*models]
        raise HubError(
            f"{name.repo} has {len(models)} models in GGUF files; say which, as in"
            f" {name.repo}:{kinds[0]}: {listed(kinds)}"
        )
    raise HubError(
        f"{name.repo} has no model that can be read: expected GGUF files, or {_CONFIG} and"
        f" safetensors; it has {listed(there) or 'nothing'}"
    )


def _gguf_models(files: Iterable[str]) -> Mapping[str, str]:
    """The quantization of each model in GGUF files, by its first file; projectors are none."""
    models = {}
    for file in files:
        part = _PART.search(file)
        name = file.rpartition("/")[2].lower()
        if (
            name.endswith(".gguf")
            and not name.startswith("mmproj")
            and (part is None or int(part[1]) == 1)
        ):
            found = _QUANTIZATION.findall(_PART.sub(r"\2", file))
            models[file] = found[-1] if found else ""
    return models


def _with_parts(file: str, files: Iterable[str]) -> list[str]:
    """A file, or all files of the split model that it is a part of."""
    if _PART.search(file) is None:
        return [file]
    stem = _PART.sub("", file)
    return [f for f in files if _PART.search(f) and _PART.sub("", f) == stem]
