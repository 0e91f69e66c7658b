"""Tensors under GGUF's names, made of those of a folder's files.

Most are tensors of the files as they are. GGUF has one tensor for all experts of a layer where
these files have one for each, and adds 1 to the weights of norms that multiply by ``1 + w``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from pipelines.common.checkpoints.checkpoint import TensorInfo
from pipelines.common.checkpoints.huggingface.model import HuggingFaceModel
from pipelines.common.checkpoints.huggingface.shards import Shard
from pipelines.common.checkpoints.huggingface.sources import Shifted, Source, Stacked, Stored
from pipelines.common.checkpoints.huggingface.stacked_experts import is_stacked, unstacked
from pipelines.common.errors import ModelFileError, quoted

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_SUFFIXES: Final = (".weight", ".bias")
_EXPERT: Final = re.compile(r"(.+\.experts)\.(\d{1,5})(\..+)")
_BUFFERS: Final = ("rotary_emb.inv_freq", "position_ids", "attn.masked_bias")
"""What older files have beside their weights, and everybody computes anew."""


def gguf_tensors(
    path: Path, shards: Iterable[Shard], model: HuggingFaceModel, config: Mapping[str, Any]
) -> dict[str, Source]:
    """The tensors of a folder's files under the names that GGUF has for them.

    A name that GGUF has no other for stays as it is, and fits no network.

    Args:
        path: The folder, for messages.
        shards: Its files.
        model: What is special about them.
        config: What ``config.json`` says.

    Raises:
        ModelFileError: Experts are missing or unlike, two tensors are one in GGUF, or there is no
            output matrix where there has to be one.
    """
    stored = {
        name: Stored(shard.file, info) for shard in shards for name, info in shard.tensors.items()
    }
    layers = config["num_hidden_layers"]
    if layers > len(stored):
        # Refused before there is a table of the names of so many.
        raise ModelFileError(
            f"{path}: num_hidden_layers is {layers}, but there are only {len(stored)} tensors"
        )
    names = _names(model.architecture, layers)
    found: dict[str, Source] = {}
    experts: dict[str, dict[int, Stored]] = {}
    stacks: dict[str, Stored] = {}
    for name, source in stored.items():
        if name.endswith(_BUFFERS) or name.startswith(model.ignored):
            continue
        name = name.removeprefix(model.prefix)
        if model.stacked_experts and is_stacked(name):
            stacks[name] = source
            continue
        if expert := _EXPERT.fullmatch(name):
            gguf_name = _gguf_name(names, expert[1] + expert[3])
            experts.setdefault(gguf_name, {})[int(expert[2])] = source
            continue
        gguf_name = _gguf_name(names, name)
        if gguf_name in found:
            raise ModelFileError(f"{path}: two tensors are {gguf_name}, {quoted(name)} is one")
        source = replace(source, info=replace(source.info, name=gguf_name))
        shifted = model.norm_offset and name.endswith("norm.weight") and source.info.rows == 1
        if shifted and source.info.encoding.supported:
            found[gguf_name] = Shifted(source, model.norm_offset)
        else:
            found[gguf_name] = source
    found.update((name, _stacked(path, name, parts)) for name, parts in experts.items())
    found.update(unstacked(path, stacks, partial(_gguf_name, names)))
    _tie(path, found, config.get("tie_word_embeddings", model.defaults.get("tie_word_embeddings")))
    return found


def _names(architecture: str, layers: int) -> Any:
    """The `gguf` package's table of names for an architecture; importing it takes a moment."""
    import gguf

    known = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(known[architecture], layers)


def _gguf_name(names: Any, name: str) -> str:
    found: str | None = names.get_name(name, try_suffixes=_SUFFIXES)
    if found is None:
        return name
    return found if found.endswith(_SUFFIXES) else f"{found}.weight"


def _stacked(path: Path, name: str, parts: Mapping[int, Stored]) -> Stacked:
    """Experts as one tensor.

    Raises:
        ModelFileError: One is missing, or unlike the others.
    """
    ordered = [parts[number] for number in sorted(parts)]
    alike = {(part.info.shape, part.info.encoding) for part in ordered}
    if sorted(parts) != [*range(len(parts))] or len(alike) > 1:
        raise ModelFileError(
            f"{path}: of the experts of {name} there are {len(parts)}, up to number {max(parts)};"
            " expected all, of one shape and type"
        )
    first = ordered[0].info
    shape = (len(ordered), *first.shape)
    info = TensorInfo(name, shape, first.encoding, 0, first.nbytes * len(ordered))
    return Stacked(info, ordered)


def _tie(path: Path, found: dict[str, Source], tied: Any) -> None:
    """Leaves out an output matrix that is there beside the embedding that stands for it."""
    if tied and _EMBEDDING in found:
        found.pop(_HEAD, None)
    if tied is False and _HEAD not in found:
        raise ModelFileError(
            f"{path}: has no output matrix (lm_head), and tie_word_embeddings is false; tensors"
            " are missing, or it is a model for another task"
        )
