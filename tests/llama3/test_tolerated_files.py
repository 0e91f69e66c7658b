"""Files that are odd, but mean what a plain one means, give its logits to the last bit.

llama.cpp runs each of them, or one whose numbers have the types that it insists on.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from notices import Notices
from numpy.typing import NDArray
from tiny_models import llama, open_model, random_tokens, write_gguf

from pipelines.common.checkpoints.gguf.reader import open_gguf

TOKENS = random_tokens(20)

Write = Callable[[Path], Path]


def metadata(pairs: dict[str, Any]) -> Write:
    """With other keys, or with usual ones in other forms."""
    return lambda path: write_gguf(path, llama(), metadata=pairs)


def replaced(old: bytes, new: bytes, pairs: dict[str, Any] | None = None) -> Write:
    """With other bytes in it."""

    def write(path: Path) -> Path:
        data = write_gguf(path, llama(), metadata=pairs).read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))
        return path

    return write


def linked(path: Path) -> Path:
    write_gguf(path, llama())
    path.with_name("link").symlink_to(path.name)
    return path.with_name("link")


def renamed(path: Path) -> Path:
    """As Ollama and Hugging Face keep files."""
    return write_gguf(path, llama()).rename(path.with_name("sha256-00e1317cbf74d901"))


def followed_by_more(path: Path) -> Path:
    with write_gguf(path, llama()).open("ab") as file:
        file.write(b"\1" * 1000)
    return path


def aligned(to: int) -> Write:
    """With tensors where numbers of theirs cannot be read in one piece."""

    def write(path: Path) -> Path:
        for padding in range(8):
            pairs = {"general.author": "a" * padding}
            write_gguf(path, llama(), metadata=pairs, alignment=to)
            if open_gguf(path).tensors["output.weight"].offset % 8 == 8 - to:
                break
        else:
            raise AssertionError
        return path

    return write


BOOLEAN = struct.pack("<I", 7)

FILES: dict[str, tuple[Write, int]] = {
    "a text in Latin-1": (replaced(b"Andr?", b"Andr\xe9", {"general.author": "Andr?"}), 0),
    "a chat template that is not UTF-8": (
        replaced(b"{{ ? }}", b"{{ \xff }}", {"tokenizer.chat_template": "{{ ? }}"}),
        0,
    ),
    "a key that is not UTF-8": (
        replaced(b"general.note?", b"general.note\xe9", {"general.note?": 1}),
        0,
    ),
    "a boolean of 255": (
        replaced(
            b"some.flag" + BOOLEAN + b"\1", b"some.flag" + BOOLEAN + b"\xff", {"some.flag": True}
        ),
        0,
    ),
    "version 2": (replaced(b"GGUF\3", b"GGUF\2"), 0),
    "an integer as a float": (metadata({"llama.context_length": 128.0}), 0),
    "a float as an integer": (metadata({"llama.rope.freq_base": 500000}), 0),
    "a number for each block": (metadata({"llama.attention.head_count": [4, 4]}), 0),
    "another size of the vocabulary": (metadata({"llama.vocab_size": 32000}), 1),
    "a scaling without a factor": (metadata({"llama.rope.scaling.type": "linear"}), 0),
    "divisors of one": (
        lambda path: write_gguf(path, llama(), rope_factors=np.ones(32, np.float32)),
        0,
    ),
    "a key that nobody knows": (metadata({"llama.surprise": 1}), 1),
    "a name without an ending": (renamed, 0),
    "a link": (linked, 0),
    "bytes after its end": (followed_by_more, 0),
    **{f"aligned to {to}": (aligned(to), 0) for to in (1, 2, 4)},
}
"""Writers, and how many things the user is told."""


def scored(path: Path) -> tuple[NDArray[np.float32], int]:
    """Logits, and how many things the user is told when the file is opened."""
    progress = Notices()
    model = open_model(path, native_ops=True, progress=progress)
    told = len(progress.messages)
    return model.start(slots=1, max_length=32).score(TOKENS), told


@functools.cache
def plain(folder: Path) -> NDArray[np.float32]:
    return scored(write_gguf(folder / "plain.gguf", llama()))[0]


@pytest.mark.parametrize("file", FILES)
def test_runs_as_the_plain_file_does(
    file: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write, told = FILES[file]
    logits, notices = scored(write(tmp_path / "model.gguf"))
    np.testing.assert_array_equal(logits, plain(tmp_path_factory.getbasetemp()))
    assert notices == told
