"""A checkpoint of random weights, which is in no file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.cache import Cache, digest
from pipelines.common.cache.digests import Digests
from pipelines.common.checkpoints.checkpoint import (
    Checkpoint,
    Metadata,
    TensorInfo,
)
from pipelines.common.checkpoints.gguf.rotation import INTERLEAVED
from pipelines.common.checkpoints.tokenizer_source import (
    MODEL,
    AnyTokenizer,
    TokenizerMaker,
    TokenizerSource,
)
from pipelines.common.encodings import F32, Encoding
from pipelines.common.encodings.convert import encoded
from pipelines.common.errors import ParameterError
from pipelines.common.parallel import for_row_chunks

_FORMAT: Final = "random weights v1"
"""Counts how values are made: with another number they are others."""

_LARGEST_SEED: Final = 2**63 - 1


@dataclass(frozen=True)
class RandomWeights:
    """Which random weights are wanted.

    Attributes:
        seed: With the same seed a tensor of the same name and shape has the same values.
        config: Sizes other than the usual tiny ones, by the names that the fields of the family's
            config have: ``{"layers": 4}``.
        metadata: Further pairs of metadata, or others in the place of those that follow from the
            sizes; None leaves one out.
        encoding: What matrices are stored in, where their rows are whole blocks of it.

    Raises:
        ParameterError: The seed is none.
    """

    seed: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    encoding: Encoding = F32

    def __post_init__(self) -> None:
        whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        if not whole or not 0 <= self.seed <= _LARGEST_SEED:
            raise ParameterError("random.seed", self.seed, f"an integer from 0 to {_LARGEST_SEED}")


class RandomCheckpoint:
    """Implements `Checkpoint`; a tensor's values are made when they are asked for, each time.

    Args:
        path: What it is called, where others have their path.
        metadata: Its key-value pairs.
        shapes: The shape of each tensor, by name.
        seed: See `RandomWeights.seed`.
        encoding: See `RandomWeights.encoding`.
        like: The checkpoint whose weights they stand for, if there is one: it has the tokenizer.
        kept: Tensors that are `like`'s own, values and all, because they are no weights.
    """

    format: Final = _FORMAT

    def __init__(
        self,
        path: Path,
        metadata: Metadata,
        shapes: Mapping[str, tuple[int, ...]],
        seed: int = 0,
        encoding: Encoding = F32,
        *,
        like: Checkpoint | None = None,
        kept: Collection[str] = (),
    ) -> None:
        self.path: Final = path
        self.metadata: Final = metadata
        self.tensors: Final[Mapping[str, TensorInfo]] = {
            name: like.tensors[name] if like and name in kept else _info(name, shape, encoding)
            for name, shape in shapes.items()
        }
        self._seed = seed
        self._like = like
        self._kept = frozenset(kept)

    @classmethod
    def like(
        cls, file: Checkpoint, wanted: RandomWeights, kept: Collection[str]
    ) -> RandomCheckpoint:
        """Random weights in the place of a checkpoint's own, of which only the shapes are read.

        Args:
            file: The checkpoint.
            wanted: The seed and the encoding.
            kept: Tensors of it that are no weights.
        """
        path = Path(f"{file.path} with random weights, seed {wanted.seed}")
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        return cls(path, file.metadata, shapes, wanted.seed, wanted.encoding, like=file, kept=kept)

    @property
    def interleaved(self) -> bool:
        """See `Checkpoint.interleaved`; as GGUF has the architecture's."""
        if self._like is not None:
            return self._like.interleaved
        return self.metadata.string("general.architecture", "") in INTERLEAVED

    @property
    def has_tokenizer(self) -> bool:
        """See `Checkpoint.has_tokenizer`."""
        return self._like.has_tokenizer if self._like else MODEL in self.metadata

    def tokenizer(
        self, cache: Cache, notice: Callable[[str], None], make: TokenizerMaker
    ) -> AnyTokenizer:
        """See `Checkpoint.tokenizer`."""
        if self._like is not None:
            return self._like.tokenizer(cache, notice, make)
        digest = self._metadata_digest
        return make(TokenizerSource(self.metadata, cache, digest, str(self.path), notice))

    def fingerprint(self, digests: Digests) -> str:  # noqa: ARG002 - there is no file to be read
        """See `Checkpoint.fingerprint`."""
        kept = [self._like.raw(name).tobytes() for name in sorted(self._kept) if self._like]
        tensors = [
            [tensor.name, list(tensor.shape), str(tensor.encoding)]
            for tensor in self.tensors.values()
        ]
        return digest(_FORMAT, {"seed": self._seed, "tensors": tensors}, self._pairs, *kept)

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `Checkpoint.raw`; made anew at each call."""
        if self._like is not None and name in self._kept:
            return self._like.raw(name, rows)
        tensor = self.tensors[name]
        values = random_values(self._seed, name, tensor.shape).reshape(tensor.rows, -1)
        raw = values.view(np.uint8) if tensor.encoding == F32 else encoded(values, tensor.encoding)
        raw.flags.writeable = False
        return raw if rows is None else raw[slice(*rows)]

    def release(self, name: str) -> None:
        """See `Checkpoint.release`; whoever has asked for values is the only one to hold them."""
        if self._like is not None and name in self._kept:
            self._like.release(name)

    @property
    def _pairs(self) -> dict[str, str]:
        """The metadata without the contents of arrays, as they may be long."""
        return {key: self.metadata.describe(key) for key in self.metadata}

    @cached_property
    def _metadata_digest(self) -> str:
        return digest(_FORMAT, {key: self.metadata[key] for key in self.metadata})


def random_values(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The values of a tensor, the same on every machine.

    They are spread evenly: those of a matrix around 0 with a variance of one over its width, which
    keeps the size of vectors; those of a bias around 0, and of other vectors, as norms have them,
    from a half to one and a half.

    Args:
        seed: Any number from 0 on.
        name: The tensor's name; what ends in ``.bias`` is a bias.
        shape: The tensor's shape.
    """
    seeds = hashlib.blake2b(f"{seed} {name} {[*shape]}".encode(), digest_size=16).digest()
    count = math.prod(shape)
    # Of NumPy's generators only the bits are promised to stay what they are.
    words = np.random.PCG64(int.from_bytes(seeds, "little")).random_raw((count + 1) // 2)
    bits = words.astype("<u8", copy=False).view("<u4")[:count].reshape(shape)
    if len(shape) > 1:
        middle, reach = 0.0, math.sqrt(3 / shape[-1])
    else:
        middle, reach = (0.0, 0.5) if name.endswith(".bias") else (1.0, 0.5)
    values = np.empty(shape, np.float32)
    rows, flat = bits.reshape(-1, shape[-1]), values.reshape(-1, shape[-1])

    def fill(chunk: slice) -> None:
        part = (rows[chunk] >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
        flat[chunk] = part * np.float32(reach) + np.float32(middle)

    for_row_chunks(len(rows), shape[-1], fill)
    return values


def _info(name: str, shape: tuple[int, ...], encoding: Encoding) -> TensorInfo:
    whole = len(shape) > 1 and shape[-1] % encoding.block_size == 0
    stored = encoding if whole else F32
    nbytes = math.prod(shape[:-1]) * stored.row_bytes(shape[-1])
    return TensorInfo(name, shape, stored, 0, nbytes)
