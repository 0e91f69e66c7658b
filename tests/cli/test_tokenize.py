from __future__ import annotations

import json

import gguf

from pipelines.common.text.byte_alphabet import byte_alphabet
from pipelines.common.text.sentence_piece_file import written
from pipelines.common.text.sentence_pieces import Pieces

ECHO = ("tokenize", "--pipeline", "echo")


def test_ids_and_pieces_one_a_line(cli):
    lines = cli(*ECHO, "--text", "aé\n").out.splitlines()
    assert [line.split() for line in lines] == [
        ["97", "a"],
        ["195", "\\xc3"],
        ["169", "\\xa9"],
        ["10", "\\n"],
    ]


def test_ids_alone(cli):
    assert cli(*ECHO, "--text", "abc", "--ids").out == "97 98 99\n"


def test_json(cli):
    record = json.loads(cli(*ECHO, "--text", "a<|end_of_text|>", "--json").out)
    assert record == {"ids": [97, 256], "pieces": ["a", "<|end_of_text|>"]}


def test_control_tokens_as_text(cli):
    record = json.loads(
        cli(*ECHO, "--text", "<|end_of_text|>", "--no-special-tokens", "--json").out
    )
    assert bytes(record["ids"]) == b"<|end_of_text|>"


def test_text_from_stdin(process):
    assert process(*ECHO, "--ids", stdin=b"hi\n").out == "104 105\n"


def test_no_text_at_all(cli):
    outcome = cli(*ECHO)
    assert outcome.code == 1
    assert "stdin" in outcome.error


def test_an_unknown_pipeline(cli):
    outcome = cli("tokenize", "--pipeline", "eco", "--text", "x")
    assert outcome.code == 2
    assert "did you mean 'echo'" in outcome.error


def test_a_file_that_is_a_vocabulary_and_nothing_else(cli, tmp_path):
    path = vocabulary_only(tmp_path / "vocabulary.gguf")
    outcome = cli("tokenize", "--model-path", path, "--text", "the<|eot_id|>", "--json")
    assert json.loads(outcome.out) == {
        "ids": [257, 256, 101, 259],
        "pieces": ["<|begin_of_text|>", "th", "e", "<|eot_id|>"],
    }
    assert outcome.err == ""
    # Which architecture it was made for does not matter, what the tokenizer lacks does.
    path = vocabulary_only(tmp_path / "other.gguf", "bloom", missing=b"\x04")
    outcome = cli("tokenize", "--model-path", path, "--text", "t\x04h", "--ids")
    assert outcome.out == "257 116 104\n"
    assert "no token for 1 of the bytes" in outcome.err


def vocabulary_only(path, architecture="llama", missing=b""):
    writer = gguf.GGUFWriter(path, architecture)
    spellings = {byte: char for char, byte in byte_alphabet().items()}
    words = ["?" * 3 if byte in missing else spellings[byte] for byte in range(256)]
    control = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([*words, "th", *control])
    writer.add_token_types([gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * 3)
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(257)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_sentencepiece_model_in_the_place_of_the_models_own(cli, tmp_path):
    words = ["\u2581", "a", "b", "\u2581a", "ab", "\u2581ab"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    types = [2, 3, 3, *[6] * 256, *[1] * len(words)]
    path = tmp_path / "tokenizer.model"
    path.write_bytes(written(Pieces(pieces, [-float(id) for id in range(len(pieces))], types)))
    for given in (path, tmp_path):
        record = json.loads(
            cli("tokenize", "--tokenizer-path", given, "--text", "ab\u00e9</s>a", "--json").out
        )
        found = ["<s>", " ab", "\\xc3", "\\xa9", "</s>", " a"]
        assert record["pieces"] == found
    path.write_bytes(path.read_bytes()[:-3])
    outcome = cli("tokenize", "--tokenizer-path", path, "--text", "a")
    assert outcome.code == 1
    assert "tokenizer.model: is not a SentencePiece model that can be read: " in outcome.err
    assert outcome.err.count("\n") == 1
