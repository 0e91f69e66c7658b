"""BPE over characters (`gemma4`) in a GGUF file, held to `transformers` with the same merges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from gguf import TokenType
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from transformers import GemmaTokenizer
from vocabularies import HARD_TEXTS, TRAINING_TEXT, load_gguf, write_gguf

from pipelines.common.errors import TokenizerError

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
USER = "<|tool_call>"


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    """A vocabulary and its merges, which go over spaces."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\n]+|\n+"), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=1200, show_progress=False, special_tokens=[*CONTROL, *BYTES, USER]
    )
    backend.train_from_iterator([*TRAINING_TEXT, "\n" * 8, "a\n\nb\n\n\nc    d  e"] * 2, trainer)
    found: dict[str, Any] = json.loads(backend.to_str())["model"]
    return found


@pytest.fixture
def metadata(model: dict[str, Any]) -> dict[str, Any]:
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    types = dict.fromkeys(CONTROL, TokenType.CONTROL) | dict.fromkeys(BYTES, TokenType.BYTE)
    types[USER] = TokenType.USER_DEFINED
    return {
        "model": "gemma4",
        "tokens": tokens,
        "token_type": [types.get(token, TokenType.NORMAL) for token in tokens],
        "merges": [" ".join(pair) for pair in model["merges"]],
        "bos_token_id": tokens.index("<bos>"),
        "eos_token_id": tokens.index("<eos>"),
        "add_bos_token": False,  # as it stands in some files by mistake
    }


def test_tokens_are_those_of_transformers(
    model: dict[str, Any], metadata: dict[str, Any], tmp_path: Path
) -> None:
    judge = GemmaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    judge.add_tokens([tokenizers.AddedToken(USER, normalized=False)])
    tokenizer = load_gguf(write_gguf(tmp_path / "gemma.gguf", metadata))
    for text in [*HARD_TEXTS, *TRAINING_TEXT, f"a{USER} b<bos>c", "\n" * 9, "x \n\n y", "▁ ▁▁"]:
        ids = judge.encode(text, add_special_tokens=False)
        assert tokenizer.encode(text) == [2, *ids], text
        assert (
            b"".join(map(tokenizer.token_bytes, ids))
            == judge.decode(ids, skip_special_tokens=True).encode()
        )
    assert tokenizer.end_ids == {1}
    assert tokenizer.vocab_size == len(metadata["tokens"])


def test_a_vocabulary_without_a_byte_is_refused(metadata: dict[str, Any], tmp_path: Path) -> None:
    metadata["tokens"][5 + 0x41] = "another"
    path = write_gguf(tmp_path / "gemma.gguf", metadata)
    with pytest.raises(TokenizerError, match=r"^gemma.gguf: .* no token <0x41>, .*`tokenizer_pat"):
        load_gguf(path)


def test_a_merge_of_what_is_no_token_is_refused(metadata: dict[str, Any], tmp_path: Path) -> None:
    metadata["merges"][0] = "▁ Ж"
    path = write_gguf(tmp_path / "gemma.gguf", metadata)
    with pytest.raises(TokenizerError, match="merge 0 is '▁ Ж'; expected two tokens"):
        load_gguf(path)
