from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from vocabularies import HARD_TEXTS, TRAINING_TEXT, Vocabulary

from pipelines.common.errors import TokenizerError
from pipelines.common.text import json_tokenizer
from pipelines.common.text.detokenizer import Detokenizer
from pipelines.common.text.tokenizer import Tokenizer


@pytest.fixture
def folder(llama3: Vocabulary, tmp_path: Path) -> Path:
    """What `save_pretrained` leaves of Llama 3's kind of tokenizer."""
    outside = PreTrainedTokenizerFast(
        tokenizer_object=llama3.backend,
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
    )
    outside.save_pretrained(tmp_path)
    return tmp_path


def change(file: Path, **values: object) -> None:
    stored = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(stored | values))


def test_ids_are_those_of_the_file_and_of_the_gguf(
    folder: Path, llama3: Vocabulary, llama3_tokenizer: Tokenizer
) -> None:
    for path in (folder, folder / "tokenizer.json"):
        tokenizer = json_tokenizer.load(path)
        assert tokenizer.source == str(folder / "tokenizer.json")
        for text in HARD_TEXTS:
            ids = llama3.backend.encode(text, add_special_tokens=False).ids
            assert tokenizer.encode(text, bos=False) == ids
            assert tokenizer.encode(text) == llama3_tokenizer.encode(text)
    described = tokenizer.describe() | {"source": ""}
    assert described == llama3_tokenizer.describe() | {"source": ""}


def test_bos_is_what_the_template_adds_where_nothing_else_tells(
    folder: Path, llama3: Vocabulary
) -> None:
    (folder / "tokenizer_config.json").unlink()
    tokenizer = json_tokenizer.load(folder)
    assert tokenizer.adds_bos
    assert tokenizer.bos_id == llama3.tokens.index("<|begin_of_text|>")


def test_a_token_that_ends_every_text_is_not_bos(folder: Path, llama3: Vocabulary) -> None:
    (folder / "tokenizer_config.json").unlink()
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    eos = ("<|end_of_text|>", llama3.tokens.index("<|end_of_text|>"))
    backend.post_processor = processors.TemplateProcessing(
        single="$A <|end_of_text|>", special_tokens=[eos]
    )
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = json_tokenizer.load(folder)
    assert tokenizer.bos_id is None
    assert not tokenizer.adds_bos


def test_the_configuration_decides_on_bos(folder: Path) -> None:
    change(folder / "tokenizer_config.json", add_bos_token=False)
    tokenizer = json_tokenizer.load(folder)
    assert tokenizer.bos_id is not None
    assert tokenizer.encode("") == []
    change(folder / "tokenizer_config.json", bos_token={"content": "<|eot_id|>"})
    change(folder / "tokenizer_config.json", add_bos_token=True)
    tokenizer = json_tokenizer.load(folder)
    assert [tokenizer.piece(id) for id in tokenizer.encode("")] == ["<|eot_id|>"]


def test_end_tokens_of_the_generation_settings_join(folder: Path) -> None:
    before = json_tokenizer.load(folder).end_ids
    change(folder / "generation_config.json", eos_token_id=[3, 4])
    assert json_tokenizer.load(folder).end_ids == before | {3, 4}
    change(folder / "generation_config.json", eos_token_id=5)
    assert json_tokenizer.load(folder).end_ids == before | {5}


def test_limits_in_the_file_cut_and_pad_nothing(folder: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(max_length=4)
    backend.enable_padding(length=50)
    backend.save(str(folder / "tokenizer.json"))
    text = "one two three four five six"
    tokenizer = json_tokenizer.load(folder)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_sentencepiece_with_byte_fallback(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    all_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    backend.train_from_iterator(TRAINING_TEXT, trainer)
    document = json.loads(backend.to_str())
    vocabulary = document["model"]["vocab"]
    vocabulary |= {token: len(vocabulary) + byte for byte, token in enumerate(all_bytes)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    change(tmp_path / "tokenizer_config.json", bos_token="<s>", eos_token="</s>")
    tokenizer = json_tokenizer.load(tmp_path)
    assert tokenizer.end_ids == {vocabulary["</s>"]}
    for text in HARD_TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text == tokenizer.backend.decode(ids)
        detokenizer = Detokenizer(tokenizer)
        assert "".join(map(detokenizer.push, ids)) + detokenizer.flush() == text


def _one_line_error(path: Path, message: str) -> None:
    with pytest.raises(TokenizerError, match=message) as caught:
        json_tokenizer.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "expected a JSON object"),
        (b"{}", "can be read: .*Model missing"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}', "merge 0"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "a"]]}}', "merge 0"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [[1, 2]]}}', "merge 0"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [null]}}', "merge 0"),
        (b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}', "can be read"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}', "decodes with nothing"),
    ],
)
def test_a_malformed_file_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    _one_line_error(tmp_path, f"tokenizer.json: .*{message}")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    _one_line_error(tmp_path, "tokenizer.json: cannot be read: No such file")
    _one_line_error(tmp_path / "nowhere", "nowhere: cannot be read: No such file")


def test_other_kinds_of_vocabulary_are_refused(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    backend.decoder = decoders.Metaspace()
    backend.save(str(tmp_path / "tokenizer.json"))
    _one_line_error(tmp_path, "decodes with Metaspace; expected byte-level BPE")
    marked = tokenizers.Tokenizer(models.BPE({"a</w>": 0}, [], end_of_word_suffix="</w>"))
    marked.decoder = decoders.ByteLevel()
    marked.save(str(tmp_path / "tokenizer.json"))
    _one_line_error(tmp_path, "end_of_word_suffix '</w>'; expected byte-level BPE")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tokenizer_config.json", {"bos_token": "<s>"}),
        ("tokenizer_config.json", {"eos_token": {"content": "</s>"}}),
        ("tokenizer_config.json", {"eos_token": ["<|eot_id|>"]}),
        ("generation_config.json", {"eos_token_id": 100_000}),
        ("generation_config.json", {"eos_token_id": ["<|eot_id|>"]}),
        ("generation_config.json", {"eos_token_id": [[1]]}),
    ],
)
def test_settings_that_name_unknown_tokens(name: str, values: dict[str, Any], folder: Path) -> None:
    change(folder / name, **values)
    _one_line_error(folder, f"{name}: .* which the tokenizer does not have")


def test_settings_that_are_no_json(folder: Path) -> None:
    (folder / "generation_config.json").write_text("eos: 3")
    _one_line_error(folder, r"generation_config\.json: is not JSON")
