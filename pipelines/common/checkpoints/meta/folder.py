"""Opens folders as Meta gives models out.

A large model was trained by several processes at once, each of which had a part of every matrix,
and has a file for each: rows of most matrices, columns of others. They are joined when a tensor is
asked for; a model in one file stays where it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.cache import Cache, digest
from pipelines.common.cache.digests import Digests
from pipelines.common.checkpoints import pages
from pipelines.common.checkpoints.checkpoint import Metadata, TensorInfo, metadata_of
from pipelines.common.checkpoints.json_file import read_object
from pipelines.common.checkpoints.meta.params import ARCHITECTURE, architecture_numbers
from pipelines.common.checkpoints.meta.pickles import bytes_of, encoding_of, load
from pipelines.common.checkpoints.model_file import ModelFile
from pipelines.common.checkpoints.opening import MAPPED, Opening
from pipelines.common.checkpoints.tokenizer_source import AnyTokenizer, TokenizerMaker
from pipelines.common.errors import ModelFileError, TokenizerError, listed, quoted
from pipelines.common.files import exists, is_folder
from pipelines.common.text.folder import tokenizer_of_folder

if TYPE_CHECKING:
    from torch import Tensor

PARAMS: Final = "params.json"
TOKENIZER: Final = "tokenizer.model"

_PATTERN: Final = "consolidated.*.pth"
_MAX_PARAMS_BYTES: Final = 1 << 20
_MOST_PARTS: Final = 256
_EMBEDDING, _HEAD, _INNER = "tok_embeddings.weight", "output.weight", "feed_forward.w1.weight"
_BUFFERS: Final = ("rope.freqs",)
_BY_COLUMNS: Final = ("attention.wo.weight", "feed_forward.w2.weight")
"""Matrices of which a process had columns; of all others it had rows."""

_LOOKED_AT: Final = 64
"""Rows that have to be the same for two matrices to be one."""


class MetaFolder:
    """An opened folder; implements `Checkpoint`. Make one with `open_folder`.

    Args:
        path: The folder.
        metadata: Its parameters, in the vocabulary of GGUF.
        parts: The parts of each tensor by its name there, and which of its dimensions they share.
        files: All files that results depend on.
        opening: How it is opened.
    """

    interleaved: Final = True
    """See `Checkpoint.interleaved`: Meta's own code rotates neighbours."""

    def __init__(
        self,
        path: Path,
        metadata: Metadata,
        parts: Mapping[str, tuple[Sequence[Tensor], int]],
        files: Sequence[Path],
        opening: Opening,
    ) -> None:
        self.path: Final = path
        self.metadata: Final = metadata
        self.tensors: Final[Mapping[str, TensorInfo]] = {
            name: _info(name, tensors, axis) for name, (tensors, axis) in parts.items()
        }
        count = len(next(iter(parts.values()))[0])
        self.format: Final = "Meta's checkpoint" + f", {count} files" * (count > 1)
        self._parts = parts
        self._files = files
        self._reads = opening.weights == "heap"

    @property
    def has_tokenizer(self) -> bool:
        """See `Checkpoint.has_tokenizer`."""
        return exists(self.path / TOKENIZER)

    def tokenizer(
        self,
        cache: Cache,  # noqa: ARG002 - it is in a file of its own
        notice: Callable[[str], None],
        make: TokenizerMaker,  # noqa: ARG002 - likewise
    ) -> AnyTokenizer:
        """See `Checkpoint.tokenizer`."""
        if not self.has_tokenizer:
            raise TokenizerError(f"{self.path}: has no {TOKENIZER}; give one with `tokenizer_path`")
        return tokenizer_of_folder(self.path / TOKENIZER, notice)

    def fingerprint(self, digests: Digests) -> str:
        """See `Checkpoint.fingerprint`; a digest of all files that results depend on."""
        files = [ModelFile(path, "mmap", "a file of a model") for path in self._files]
        return digest(*(f"{file.path.name} {file.digest(digests)}" for file in files))

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `Checkpoint.raw`; what several files have parts of is joined in memory."""
        parts, axis = self._parts[name]
        info = self.tensors[name]
        first, last = rows or (0, info.rows)
        if len(parts) == 1 and not self._reads:
            whole = bytes_of(parts[0])[first:last]
        else:
            whole = pages.allocate((last - first, info.nbytes // info.rows), np.uint8)
            raws = [bytes_of(part) for part in parts]
            if axis == 1:
                np.concatenate([raw[first:last] for raw in raws], axis=1, out=whole)
            else:
                each = len(raws[0])
                cut = [
                    raw[max(0, first - n * each) : max(0, last - n * each)]
                    for n, raw in enumerate(raws)
                ]
                np.concatenate(cut, axis=0, out=whole)
        whole.flags.writeable = False
        return whole

    def release(self, name: str) -> None:
        """See `Checkpoint.release`; pages of files that PyTorch has mapped are the system's."""


def open_folder(path: Path, opening: Opening = MAPPED) -> MetaFolder:
    """Opens a folder, or the folder of a file in it.

    Raises:
        ModelFileError: A file is missing, cannot be read, or holds something else; or they do not
            belong together.
        DependencyError: PyTorch is not installed.
    """
    folder = path if is_folder(path) else path.parent
    folder = folder if folder.name else folder.absolute()  # messages call it by its name
    if not exists(folder / PARAMS):
        raise ModelFileError(
            f"{path}: has no {PARAMS} beside it, which says what the model is; expected the folder"
            " of a model as Meta gives it out"
        )
    params = read_object(folder / PARAMS, _MAX_PARAMS_BYTES)
    paths = _paths(folder)
    joined = _joined(folder, [load(each) for each in paths], params.get("dim"))
    for name in _BUFFERS:
        joined.pop(name, None)
    if _EMBEDDING not in joined or f"layers.0.{_INNER}" not in joined:
        raise ModelFileError(f"{folder}: has no {_EMBEDDING}, or no layers; expected a Llama")
    parts, axis = joined[f"layers.0.{_INNER}"]
    inner = _info("", parts, axis).shape[0]
    tied = _is_tied(joined)
    numbers = architecture_numbers(params, inner, lambda: tied, folder / PARAMS)
    layers = numbers["block_count"]
    if type(layers) is not int or layers > len(joined):
        raise ModelFileError(
            f"{folder / PARAMS}: n_layers is {layers}, but there are only {len(joined)} tensors"
        )
    if tied:
        joined.pop(_HEAD, None)
    pairs: dict[str, Any] = {
        "general.architecture": ARCHITECTURE,
        **{f"{ARCHITECTURE}.{key}": value for key, value in numbers.items()},
    }
    small = [folder / name for name in (PARAMS, TOKENIZER) if exists(folder / name)]
    return MetaFolder(
        folder, metadata_of(folder, pairs), _named(joined, layers), [*paths, *small], opening
    )


def _paths(folder: Path) -> list[Path]:
    """The files of a folder's tensors, all of them."""
    paths = sorted(folder.glob(_PATTERN))
    names = [each.name for each in paths]
    expected = [f"consolidated.{number:02}.pth" for number in range(len(paths))]
    if not paths or len(paths) > _MOST_PARTS or names != expected:
        there = listed(names) or "none"
        raise ModelFileError(
            f"{folder}: expected consolidated.00.pth and the others counted from there, there are:"
            f" {there}"
        )
    return paths


def _joined(
    folder: Path, files: Sequence[Mapping[str, Tensor]], dim: Any
) -> dict[str, tuple[Sequence[Tensor], int]]:
    """The parts of each tensor, and the dimension that they share; -1 where each is the whole.

    Raises:
        ModelFileError: A file lacks a tensor, or has it in another shape.
    """
    joined: dict[str, tuple[Sequence[Tensor], int]] = {}
    for name in {name: None for file in files for name in file}:
        parts = [file[name] for file in files if name in file]
        alike = {(part.shape, part.dtype) for part in parts}
        if len(parts) != len(files) or len(alike) > 1 or parts[0].ndim > 2:
            raise ModelFileError(
                f"{folder}: the files do not have parts of one model: tensor {quoted(name)} is"
                f" in {len(parts)} of {len(files)}, in {len(alike)} shapes or types"
            )
        if len(parts) == 1 or parts[0].ndim < 2:
            joined[name] = parts[:1], 0
        elif name == _EMBEDDING:
            # Llama 2 has columns of it in each file, Llama 3 rows.
            joined[name] = parts, 0 if parts[0].shape[1] == dim else 1
        else:
            joined[name] = parts, 1 if name.endswith(_BY_COLUMNS) else 0
    return joined


def _info(name: str, parts: Sequence[Tensor], axis: int) -> TensorInfo:
    shape = [*parts[0].shape]
    shape[axis] *= len(parts)
    encoding = encoding_of(parts[0])
    return TensorInfo(name, tuple(shape), encoding, 0, math.prod(shape) * encoding.row_bytes(1))


def _is_tied(joined: Mapping[str, tuple[Sequence[Tensor], int]]) -> bool:
    """Whether the output matrix is missing, or the embedding once more."""
    if _HEAD not in joined:
        return True
    pairs = list(zip(joined[_EMBEDDING][0], joined[_HEAD][0], strict=False))
    if any(one.shape != other.shape for one, other in pairs):
        return False
    step = max(1, len(pairs[0][0]) // _LOOKED_AT)
    return all(bool((one[::step] == other[::step]).all()) for one, other in pairs)


def _named(
    joined: Mapping[str, tuple[Sequence[Tensor], int]], layers: int
) -> dict[str, tuple[Sequence[Tensor], int]]:
    """The tensors under GGUF's names; importing the table takes a moment."""
    import gguf

    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    suffixes = (".weight", ".bias")
    return {table.get_name(name, suffixes) or name: parts for name, parts in joined.items()}
