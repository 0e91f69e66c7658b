"""Tensors under GGUF's names, made of those of a folder's files.

Most are tensors of the files as they are. GGUF has one tensor for all experts of a layer where
these files have one for each, and adds 1 to the weights of norms that multiply by ``1 + w``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints import pages
from pipelines.common.checkpoints.checkpoint import TensorInfo
from pipelines.common.checkpoints.huggingface.model import HuggingFaceModel
from pipelines.common.checkpoints.huggingface.shards import Shard
from pipelines.common.checkpoints.model_file import ModelFile
from pipelines.common.encodings import F32
from pipelines.common.encodings.convert import dequantize
from pipelines.common.errors import ModelFileError, quoted

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_EXPERT: Final = re.compile(r"(.+\.experts)\.(\d{1,5})(\..+)")
_BUFFERS: Final = ("rotary_emb.inv_freq", "position_ids", "attn.masked_bias")
"""What older files have beside their weights, and everybody computes anew."""

Rows = tuple[int, int] | None


class Source(Protocol):
    """Where a tensor comes from."""

    @property
    def info(self) -> TensorInfo:
        """What it is."""

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Checkpoint.raw`."""

    def release(self) -> None:
        """See `Checkpoint.release`."""


@dataclass(frozen=True)
class Stored:
    """A tensor of a file as it is."""

    file: ModelFile
    info: TensorInfo

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Source.raw`."""
        return self.file.raw(self.info, rows)

    def release(self) -> None:
        """See `Source.release`."""
        self.file.release(self.info)


@dataclass(frozen=True)
class Stacked:
    """Matrices of one shape, one after the other; those of a single one stay where they are."""

    info: TensorInfo
    parts: Sequence[Stored]

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Source.raw`; what is gathered is let go of in its files."""
        each = self.info.rows // len(self.parts)
        first, last = rows or (0, self.info.rows)
        one, start = divmod(first, each)
        if start + last - first <= each:
            return self.parts[one].raw((start, start + last - first))
        stack = pages.allocate((self.info.rows, self.info.nbytes // self.info.rows), np.uint8)
        for number, part in enumerate(self.parts):
            stack[number * each : (number + 1) * each] = part.raw(None)
            part.release()
        stack.flags.writeable = False
        return stack[first:last]

    def release(self) -> None:
        """See `Source.release`."""
        for part in self.parts:
            part.release()


@dataclass(frozen=True)
class Shifted:
    """The values of a vector, and a number added to each."""

    part: Stored
    offset: float

    @property
    def info(self) -> TensorInfo:
        """See `Source.info`."""
        info = self.part.info
        return replace(info, encoding=F32, offset=0, nbytes=F32.row_bytes(info.row_length))

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Source.raw`."""
        values = dequantize(self.part.info.encoding, self.part.raw(rows)) + np.float32(self.offset)
        return values.view(np.uint8)

    def release(self) -> None:
        """See `Source.release`."""
        self.part.release()


@dataclass(frozen=True)
class Said:
    """A vector that the config has the values of."""

    name: str
    values: tuple[float, ...]

    @property
    def info(self) -> TensorInfo:
        """See `Source.info`."""
        return TensorInfo(self.name, (len(self.values),), F32, 0, 4 * len(self.values))

    def raw(self, rows: Rows) -> NDArray[np.uint8]:  # noqa: ARG002 - a vector is one row
        """See `Source.raw`."""
        return np.array([self.values], np.float32).view(np.uint8)

    def release(self) -> None:
        """See `Source.release`."""


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
    for name, source in stored.items():
        if name.endswith(_BUFFERS) or name.startswith(model.ignored):
            continue
        name = name.removeprefix(model.prefix)
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
    _tie(path, found, config.get("tie_word_embeddings", model.defaults.get("tie_word_embeddings")))
    return found


def _names(architecture: str, layers: int) -> Any:
    """The `gguf` package's table of names for an architecture; importing it takes a moment."""
    import gguf

    known = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(known[architecture], layers)


def _gguf_name(names: Any, name: str) -> str:
    found: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
    return found or name


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
