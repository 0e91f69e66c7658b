from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from sentence_models import nasty_texts, pieces_of, trained
from tokenizers import decoders, models, normalizers, processors, trainers
from transformers import GemmaTokenizer, LlamaTokenizer, PreTrainedTokenizerFast
from vocabularies import HARD_TEXTS, TRAINING_TEXT, Vocabulary

from pipelines.common.errors import TokenizerError
from pipelines.common.text.detokenizer import Detokenizer
from pipelines.common.text.folder import tokenizer_of_folder
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


def load(path: Path, notice: Callable[[str], None] = pytest.fail) -> Tokenizer:
    """Reads a tokenizer; a notice is a failure where none is expected."""
    return tokenizer_of_folder(path, notice)


def change(file: Path, **values: object) -> None:
    stored = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(stored | values))


def test_ids_are_those_of_the_file_and_of_the_gguf(
    folder: Path, llama3: Vocabulary, llama3_tokenizer: Tokenizer
) -> None:
    for path in (folder, folder / "tokenizer.json"):
        tokenizer = load(path)
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
    tokenizer = load(folder)
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
    tokenizer = load(folder)
    assert tokenizer.bos_id is None
    assert not tokenizer.adds_bos


def test_the_configuration_decides_on_bos(folder: Path) -> None:
    change(folder / "tokenizer_config.json", add_bos_token=False)
    tokenizer = load(folder)
    assert tokenizer.bos_id is not None
    assert tokenizer.encode("") == []
    change(folder / "tokenizer_config.json", bos_token={"content": "<|eot_id|>"})
    change(folder / "tokenizer_config.json", add_bos_token=True)
    tokenizer = load(folder)
    assert [tokenizer.piece(id) for id in tokenizer.encode("")] == ["<|eot_id|>"]


def test_end_tokens_of_the_generation_settings_join(folder: Path) -> None:
    before = load(folder).end_ids
    change(folder / "generation_config.json", eos_token_id=[3, 4])
    assert load(folder).end_ids == before | {3, 4}
    change(folder / "generation_config.json", eos_token_id=5)
    assert load(folder).end_ids == before | {5}


def test_limits_in_the_file_cut_and_pad_nothing(folder: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(max_length=4)
    backend.enable_padding(length=50)
    backend.save(str(folder / "tokenizer.json"))
    text = "one two three four five six"
    tokenizer = load(folder)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("prefix", [False, True])
def test_sentencepiece_with_byte_fallback(prefix: bool, tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    spaces = normalizers.Replace(" ", "▁")
    undone = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:  # as Llama 2 has it
        spaces = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
        undone += [decoders.Strip(" ", 1, 0)]
    backend.normalizer = spaces
    backend.decoder = decoders.Sequence(undone)
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
    tokenizer = load(tmp_path)
    assert tokenizer.end_ids == {vocabulary["</s>"]}
    for text in HARD_TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text == tokenizer.vocabulary.backend.decode(ids)
        detokenizer = Detokenizer(tokenizer)
        streamed = "".join(map(detokenizer.push, ids)) + detokenizer.flush()
        assert streamed == (f" {text}" if prefix and text else text)


@pytest.mark.parametrize("kind", [LlamaTokenizer, GemmaTokenizer])
def test_folders_of_sentencepiece_are_read_as_transformers_does(kind: Any, tmp_path: Path) -> None:
    pieces = pieces_of(trained())
    ids = {piece: id for id, piece in enumerate(pieces.pieces)}
    merged = sorted(range(len(ids)), key=lambda id: -pieces.scores[id])
    merges = [
        (piece[:cut], piece[cut:])
        for piece in (pieces.pieces[id] for id in merged if pieces.types[id] == 1)
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    outside = kind(vocab=ids, merges=merges, mask_token="<unk>", **special)
    outside.save_pretrained(tmp_path)
    tokenizer = load(tmp_path)
    assert tokenizer.end_ids == {ids["</s>"]}
    for text in nasty_texts(pieces, 400):
        found = tokenizer.encode(text, bos=False)
        assert found == outside.encode(text, add_special_tokens=False), text
        assert tokenizer.decode(found) == outside.decode(found, skip_special_tokens=True)


def _one_line_error(path: Path, message: str) -> None:
    with pytest.raises(TokenizerError, match=message) as caught:
        load(path, notice=lambda _: None)
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
    _one_line_error(tmp_path, "of the kind 'WordLevel'; expected byte-level BPE")
    marked = tokenizers.Tokenizer(models.BPE({"a</w>": 0}, [], end_of_word_suffix="</w>"))
    marked.decoder = decoders.ByteLevel()
    marked.save(str(tmp_path / "tokenizer.json"))
    _one_line_error(tmp_path, "end_of_word_suffix '</w>'; expected byte-level BPE")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tokenizer_config.json", {"bos_token": "<s>", "add_bos_token": False}),
        ("tokenizer_config.json", {"eos_token": {"content": "</s>"}}),
        ("generation_config.json", {"eos_token_id": 100_000}),
        ("generation_config.json", {"eos_token_id": [-1, 3]}),
    ],
)
def test_settings_that_name_unknown_tokens(name: str, values: dict[str, Any], folder: Path) -> None:
    change(folder / name, **values)
    notices: list[str] = []
    tokenizer = load(folder, notices.append)
    (notice,) = notices
    assert name in notice
    assert "the tokenizer does not have" in notice
    known = set(range(tokenizer.vocab_size))
    assert tokenizer.end_ids <= known
    # All that is still known counts.
    assert ({3} <= tokenizer.end_ids) == (3 in _listed(values.get("eos_token_id")))


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_a_beginning_that_is_unknown_cannot_be_added(folder: Path) -> None:
    change(folder / "tokenizer_config.json", bos_token="<s>", add_bos_token=True)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = processors.ByteLevel()
    backend.save(str(folder / "tokenizer.json"))
    _one_line_error(folder, "beginning-of-text token is to be added")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tokenizer_config.json", {"bos_token": 3}),
        ("tokenizer_config.json", {"eos_token": ["<|eot_id|>"]}),
        ("generation_config.json", {"eos_token_id": ["<|eot_id|>"]}),
        ("generation_config.json", {"eos_token_id": [[1]]}),
        ("generation_config.json", {"eos_token_id": True}),
        ("generation_config.json", {"eos_token_id": 3.0}),
    ],
)
def test_settings_of_another_type(name: str, values: dict[str, Any], folder: Path) -> None:
    change(folder / name, **values)
    _one_line_error(folder, f"{name}: .* expected a token")


def test_settings_that_are_no_json(folder: Path) -> None:
    (folder / "generation_config.json").write_text("eos: 3")
    _one_line_error(folder, r"generation_config\.json: is not JSON")


NAMES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_or_has_no_end(name: str, folder: Path) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    path.mkdir()
    _one_line_error(folder, rf"{name}(/tokenizer\.json)?: ")
    path.rmdir()
    os.mkfifo(path)
    _one_line_error(folder, f"{name}: cannot be read: Is a named pipe")
    path.unlink()
    path.symlink_to("/dev/zero")
    _one_line_error(folder, f"{name}: cannot be read: Is a device")
    path.unlink()
    path.symlink_to(path)
    _one_line_error(folder, f"{name}: cannot be read: Too many levels of symbolic links")
    path.unlink()
    with path.open("wb") as file:
        file.truncate(10 << 30)  # takes no room
    _one_line_error(folder, rf"{name}: cannot be read: Is larger than \d+ MiB")


def test_many_values_are_not_made_objects(folder: Path) -> None:
    (folder / "generation_config.json").write_bytes(b"[" + b"[]," * 1_500_000 + b"[]]")
    _one_line_error(folder, "generation_config.json: cannot be read: Is larger than")
    (folder / "tokenizer.json").write_bytes(b"[" + b"[]," * 3_000_000 + b"[]]")
    _one_line_error(folder, "tokenizer.json: holds more than 5,242,880 values")


def _vocabulary(**tokens: int) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        document["model"]["vocab"] |= tokens

    return edit


def _added(**token: object) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        document["added_tokens"].append(document["added_tokens"][0] | token)

    return edit


def _model(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["model"].update(values)


def _part(name: str, *steps: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Puts a normalizer, or pre-tokenizers before the one of bytes."""

    def edit(document: dict[str, Any]) -> None:
        if name == "normalizer":
            document[name] = {"type": "Sequence", "normalizers": steps}
        else:
            document[name]["pretokenizers"] = [*steps, *document[name]["pretokenizers"]]

    return edit


def _split(expression: str) -> dict[str, Any]:
    pattern = {"Regex": expression}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _template(*sequences: str) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        pieces = [{"Sequence": {"id": id, "type_id": 0}} for id in sequences]
        template = document["post_processor"] | {"single": pieces}
        document["post_processor"] = {"type": "Sequence", "processors": [template]}

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        # The library makes a table up to the largest id: 16 GiB.
        (_vocabulary(x=2**32 - 1), "has the token id 4,294,967,295, expected less than"),
        (_added(id=2**31, content="<x>"), "has the token id 2,147,483,648, expected less than"),
        (_vocabulary(**{"x" * 20_000: 0}), "has a token of 20,000 bytes, expected at most"),
        (_added(content="x" * 1_000_000), "has a token of 1,000,000 bytes, expected at most"),
        (_model(type="WordLevel"), "the vocabulary is of the kind 'WordLevel'; expected"),
        (_model(type=["BPE"]), "the vocabulary is of the kind .*BPE.*; expected"),
        (_model(type="Unigram", vocab=[["a", -1.0]]), "unk_id is missing"),
        (_model(unk_token="<none>"), "unk_token is '<none>', which the vocabulary does not have"),
        (_model(dropout=0.5), "dropout '0.5', which makes tokens random"),
        (_part("normalizer", _replace({"String": "a"}, "x" * 1025)), "more than 1,024 characters"),
        (_part("normalizer", *[_replace({"String": "a"}, "aa")] * 11), "more than 1,024"),
        (_part("normalizer", {"type": "Prepend", "prepend": "x" * 1025}), "more than 1,024"),
        (
            _part("normalizer", {"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
            "precompiled table of characters; expected",
        ),
        (_template(), "the template does not have the text in it once"),
        (_template("B"), "the template does not have the text in it once"),
        (_template("A", "A"), "the template does not have the text in it once"),
    ],
)
def test_what_would_make_the_library_fail_or_take_gigabytes(
    edit: Callable[[dict[str, Any]], None], message: str, folder: Path
) -> None:
    _edit(folder, edit)
    _one_line_error(folder, f"tokenizer.json: .*{message}")


@pytest.mark.parametrize(
    "edit",
    [
        _part("pre_tokenizer", _split("(a+)+$")),
        _part("pre_tokenizer", {"type": "FixedLength", "length": 0}),
        _part("normalizer", _replace({"Regex": ""}, "xy")),
    ],
)
def test_a_panic_of_the_library_is_one_line(
    edit: Callable[[dict[str, Any]], None], folder: Path
) -> None:
    _edit(folder, edit)
    tokenizer = load(folder)
    with pytest.raises(TokenizerError, match=r"tokenizer.json: the tokenizer fails: ") as caught:
        tokenizer.encode("Hello " + "a" * 40 + "b")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "processor",
    [
        {"special_tokens": {}},
        {"special_tokens": {"<|begin_of_text|>": {"id": "x", "ids": [], "tokens": []}}},
        {"special_tokens": {"<|begin_of_text|>": {"id": "x", "ids": [10**6], "tokens": ["x"]}}},
        {"type": "RobertaProcessing", "cls": ["x", 10**6], "sep": ["x", 1]},
    ],
)
def test_a_template_that_begins_with_no_token(processor: dict[str, Any], folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    common = {"trim_offsets": True, "add_prefix_space": True}
    _edit(folder, lambda document: document["post_processor"].update(common | processor))
    notices: list[str] = []
    tokenizer = load(folder, notices.append)
    assert tokenizer.bos_id is None
    assert len(notices) == ("1000000" in str(processor))


def test_bos_of_roberta_is_its_first_token(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = processors.RobertaProcessing(("b", 7), ("a", 5))
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = load(folder)
    assert tokenizer.encode("x")[0] == backend.encode("x").ids[0] == tokenizer.bos_id == 5


def _edit(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "tokenizer.json"
    document = json.loads(file.read_bytes())
    edit(document)
    file.write_text(json.dumps(document))
