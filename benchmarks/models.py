"""The model files of the comparison, and what has to be read of them."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.random_gguf import SHAPES, write_random_gguf
from pipelines.common.checkpoints.gguf.reader import open_gguf

KV_ELEMENT_BYTES = 2
"""Keys and values are counted in float16, as llama.cpp keeps them."""


@dataclass(frozen=True)
class Model:
    """A model file of random weights.

    Attributes:
        shape: A key of `SHAPES`.
        encoding: What its big matrices are stored in.
        path: Where it is.
        total_bytes: Of all its tensors.
        bytes_per_token: Of those that a decode step reads in full: all but the embedding, of which
            it reads a row, unless that is the output matrix too.
    """

    shape: str
    encoding: str
    path: Path
    total_bytes: int
    bytes_per_token: int

    @classmethod
    def at(cls, folder: Path, shape: str, encoding: str = "q4_0") -> Model:
        """The file in `folder`, written if it is not there."""
        folder = folder.resolve()  # engines run elsewhere
        path = (
            folder / f"{shape}.gguf" if encoding == "q4_0" else folder / f"{shape}-{encoding}.gguf"
        )
        if not path.exists():
            print(f"writing {path}", file=sys.stderr, flush=True)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as unfinished:
                written = Path(unfinished) / path.name
                write_random_gguf(written, SHAPES[shape], encoding)
                written.rename(path)
        sizes = {name: tensor.nbytes for name, tensor in open_gguf(path).tensors.items()}
        total = sum(sizes.values())
        rows_only = sizes["token_embd.weight"] if "output.weight" in sizes else 0
        return cls(shape, encoding, path, total, total - rows_only)

    def read(self) -> None:
        """Reads all of the file, so that the system keeps it in memory."""
        read_whole(self.path)

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.shape.upper()}, {self.encoding}"

    def kv_bytes(self, positions: float) -> float:
        """Keys and values of so many positions."""
        shape = SHAPES[self.shape]
        elements = 2 * shape.layers * shape.kv_heads * shape.head_dim
        return positions * elements * KV_ELEMENT_BYTES


def read_whole(path: Path) -> None:
    """Reads all of a file, so that the system keeps it in memory."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass
