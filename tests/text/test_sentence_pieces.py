"""SentencePiece's BPE, from GGUF files and from its own, against its own package."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_models import CONTROL, USER, gguf_of, judge, judged, nasty_texts, pieces_of, shuffled
from sentence_models import trained as train_model
from vocabularies import load_gguf

from pipelines.common.errors import ModelFileError, TokenizerError
from pipelines.common.text.detokenizer import Detokenizer
from pipelines.common.text.folder import tokenizer_of_folder
from pipelines.common.text.sentence_piece_file import written
from pipelines.common.text.sentence_pieces import Pieces, SentencePieces

KINDS: dict[str, dict[str, Any]] = {
    "llama2": {},
    "gemma": {
        "add_dummy_prefix": False,
        "user_defined_symbols": USER,
        "control_symbols": CONTROL,
    },
    "user": {"user_defined_symbols": USER, "control_symbols": CONTROL},
    "collapsing": {"remove_extra_whitespaces": True},
    "unknown": {"byte_fallback": False},
}


@dataclasses.dataclass(frozen=True)
class Model:
    content: bytes
    pieces: Pieces
    judge: Any


@pytest.fixture(scope="session", params=KINDS)
def model(request: pytest.FixtureRequest) -> Model:
    options = KINDS[request.param]
    content = train_model(**options)
    pieces = pieces_of(
        content,
        options.get("user_defined_symbols", ()),
        adds_space=options.get("add_dummy_prefix", True),
        collapses_spaces=options.get("remove_extra_whitespaces", False),
    )
    return Model(content, pieces, judge(content))


@pytest.fixture(scope="session")
def llama2() -> Pieces:
    return pieces_of(train_model(control_symbols=CONTROL))


def test_ids_and_texts_are_those_of_the_package(model: Model, tmp_path: Path) -> None:
    tokenizer = load_gguf(gguf_of(tmp_path / "m.gguf", model.pieces))
    (tmp_path / "tokenizer.model").write_bytes(model.content)
    of_model_file = tokenizer_of_folder(tmp_path, pytest.fail)
    for text in nasty_texts(model.pieces, 1500):
        ids = model.judge.encode(text)
        assert tokenizer.encode(text, bos=False, special=False) == ids, text
        assert of_model_file.encode(text, bos=False, special=False) == ids, text
        if model.judge.unk_id() not in ids:
            decoded = tokenizer.decode(ids)
            if model.pieces.collapses_spaces:
                decoded = decoded.lstrip(" ")
            assert decoded == model.judge.decode(ids), text
            streamed = _streamed(tokenizer, ids)
            assert streamed.removeprefix(" " * model.pieces.adds_space) == tokenizer.decode(ids)
    told = of_model_file.describe() | {"source": ""}
    assert told == tokenizer.describe() | {"source": ""}


def _streamed(tokenizer: Any, ids: list[int]) -> str:
    detokenizer = Detokenizer(tokenizer)
    return "".join(map(detokenizer.push, ids)) + detokenizer.flush()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("collapses", [False, True])
def test_where_scores_are_alike_the_leftmost_is_merged(
    seed: int, collapses: bool, llama2: Pieces
) -> None:
    pieces = shuffled(llama2, seed, adds_space=seed > 0, collapses_spaces=collapses)
    vocabulary, outside = SentencePieces(pieces, "m"), judged(pieces)
    for text in nasty_texts(pieces, 1000, seed):
        assert vocabulary.encode(text, special=False) == outside.encode(text), text


def test_long_texts_are_merged_in_a_moment(llama2: Pieces) -> None:
    vocabulary, outside = SentencePieces(llama2, "m"), judged(llama2)
    for text in ("a" * 30_000, "生命的意义" * 5_000, "the family went " * 5_000, "\n" * 20_000):
        assert vocabulary.encode(text, special=False) == outside.encode(text)


def test_control_tokens_stand_between_texts(llama2: Pieces, tmp_path: Path) -> None:
    tokenizer = load_gguf(gguf_of(tmp_path / "m.gguf", llama2))
    outside = judged(llama2)
    end, bos = llama2.pieces.index("<|im_end|>"), 1
    ids = tokenizer.encode("Hi <|im_end|> there<s>")
    assert ids == [bos, *outside.encode("Hi "), end, *outside.encode(" there"), bos]
    assert tokenizer.token_bytes(end) == b""
    assert tokenizer.decode(ids, special=True) == "<s>Hi <|im_end|>  there<s>"
    assert end in tokenizer.end_ids
    spelled = tokenizer.encode("<|im_end|>", bos=False, special=False)
    assert spelled == outside.encode("<|im_end|>")
    assert end not in spelled


def test_a_family_streams_person_by_person(llama2: Pieces, tmp_path: Path) -> None:
    tokenizer = load_gguf(gguf_of(tmp_path / "m.gguf", llama2))
    first = llama2.types.index(6)
    ids = [first + byte for byte in "👨‍👩‍👧".encode()]
    detokenizer = Detokenizer(tokenizer)
    assert [p for p in map(detokenizer.push, ids) if p] == ["👨", "\u200d", "👩", "\u200d", "👧"]


def test_what_a_file_does_not_say_is_as_llama_cpp_has_it(llama2: Pieces, tmp_path: Path) -> None:
    unsaid = {"add_space_prefix": None, "remove_extra_whitespaces": None}
    tokenizer = load_gguf(gguf_of(tmp_path / "m.gguf", llama2, **unsaid))
    assert (tokenizer.bos_id, tokenizer.adds_bos) == (1, True)
    assert 2 in tokenizer.end_ids
    assert tokenizer.encode("a  b") == [1, *judged(llama2).encode("a  b")]
    said = {"bos_token_id": 3, "eos_token_id": 4, "add_bos_token": False}
    tokenizer = load_gguf(gguf_of(tmp_path / "said.gguf", llama2, **said))
    assert (tokenizer.bos_id, tokenizer.adds_bos) == (3, False)
    assert 2 not in tokenizer.end_ids or llama2.pieces[2] == "</s>"


def test_its_file_is_read_by_the_package_and_by_us(model: Model, tmp_path: Path) -> None:
    vocabulary = SentencePieces(model.pieces, "m")
    ((name, content),) = vocabulary.files().items()
    (tmp_path / name).write_bytes(content)
    again = tokenizer_of_folder(tmp_path, pytest.fail)
    outside = judge(content)
    for text in nasty_texts(model.pieces, 300, 1):
        ids = model.judge.encode(text)
        assert outside.encode(text) == ids
        assert again.encode(text, bos=False, special=False) == ids


def _changed(**changes: Any) -> Callable[[Pieces], Pieces]:
    return lambda pieces: dataclasses.replace(
        pieces, **{name: change([*getattr(pieces, name)]) for name, change in changes.items()}
    )


def _put(index: int, value: object) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [*values[:index], value, *values[index + 1 :]]


DAMAGED = [
    (_changed(scores=lambda scores: scores[:-1]), r"\d+ tokens but \d+ scores"),
    (_changed(types=lambda types: [*types, 1]), r"\d+ tokens but \d+ token types"),
    (_changed(scores=_put(300, math.nan)), "token 300 has the score nan"),
    (_changed(scores=_put(300, math.inf)), "token 300 has the score inf"),
    (_changed(scores=_put(300, -math.inf)), "token 300 has the score -inf"),
    (_changed(types=_put(300, 9)), "of the type 9; there are 1 to 6"),
    (_changed(types=_put(300, 0)), "of the type 0; there are 1 to 6"),
    (_changed(pieces=_put(300, "<s>")), "token '<s>' twice, as 1 and 300"),
    (_changed(pieces=_put(300, "x" * 20_000)), "a token of 20,000 bytes"),
    (_changed(types=_put(300, 6)), "token 300 stands for a byte and is"),
    (_changed(pieces=_put(20, "<0xZZ>")), "token 20 stands for a byte and is '<0xZZ>'"),
    (_changed(types=_put(20, 1)), "pieces for 255 bytes and none for 0x"),
    (_changed(types=lambda types: [1] * len(types)), "neither pieces for bytes nor one"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGED)
def test_a_damaged_vocabulary_is_one_line(
    change: Callable[[Pieces], Pieces], message: str, llama2: Pieces, tmp_path: Path
) -> None:
    path = gguf_of(tmp_path / "damaged.gguf", change(llama2))
    with pytest.raises(TokenizerError, match=f"^damaged.gguf: .*{message}") as caught:
        load_gguf(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("tokens", None), ("scores", None), ("scores", ["a"]), ("token_type", "x"), ("tokens", [1])],
)
def test_keys_that_are_missing_or_of_another_type(
    key: str, value: Any, llama2: Pieces, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=f"tokenizer.ggml.{key}"):
        load_gguf(gguf_of(tmp_path / "m.gguf", llama2, **{key: value}))


def test_pieces_of_the_users_with_spaces_of_their_own(tmp_path: Path) -> None:
    content = train_model(user_defined_symbols=["  ", "a b"], allow_whitespace_only_pieces=True)
    outside = judge(content)
    pieces = pieces_of(content)
    pairs = zip(pieces.pieces, pieces.types, strict=True)
    types = [4 if " " in piece else kind for piece, kind in pairs]
    assert types.count(4) == 2
    assert "\u2581\u2581" in pieces.pieces
    pieces = dataclasses.replace(pieces, types=types)
    tokenizer = load_gguf(gguf_of(tmp_path / "m.gguf", pieces))
    (tmp_path / "tokenizer.model").write_bytes(content)
    of_model_file = tokenizer_of_folder(tmp_path, pytest.fail)
    for text in ("x  y", "   ", "a  b"):
        ids = outside.encode(text)
        assert tokenizer.encode(text, bos=False) == ids
        assert of_model_file.encode(text, bos=False) == ids
    assert of_model_file.encode("a b", bos=False) == outside.encode("a b")
    # Of which a GGUF file cannot tell that no text has it.
    assert pieces.pieces.index("a b") in tokenizer.encode("a b", bos=False)


def test_a_piece_without_text(llama2: Pieces, tmp_path: Path) -> None:
    pieces = dataclasses.replace(llama2, pieces=[*llama2.pieces[:-1], ""])
    tokenizer = load_gguf(gguf_of(tmp_path / "m.gguf", pieces))
    last = len(pieces.pieces) - 1
    assert tokenizer.token_bytes(last) == f"[EMPTY_{last}]".encode()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "unigram", "byte_fallback": False}, "of the kind 'unigram'"),
        ({"normalization_rule_name": "nmt_nfkc"}, "with a table of characters"),
        ({"treat_whitespace_as_suffix": True}, "with spaces that end words"),
    ],
)
def test_models_of_other_kinds_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(train_model(vocab_size=400, **options))
    with pytest.raises(TokenizerError, match=f"tokenizer.model: .*{message}.*`tokenizer_path`"):
        tokenizer_of_folder(tmp_path, pytest.fail)


def test_a_file_that_is_cut_or_changed_is_one_line(llama2: Pieces, tmp_path: Path) -> None:
    content = written(llama2)
    file = tmp_path / "tokenizer.model"
    changed = [content[: len(content) * n // 50] for n in range(50)]
    for n in range(100):
        place = len(content) * n // 100
        bit = bytes([content[place] ^ (1 << n % 8)])
        changed.append(content[:place] + bit + content[place + 1 :])
    changed += [b"\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\n", b"\n\n\n", b"junk", b""]
    for broken in changed:
        file.write_bytes(broken)
        try:
            tokenizer = tokenizer_of_folder(tmp_path, lambda _: None)
        except TokenizerError as error:
            assert re.match(r"[^\n]*tokenizer.model: [^\n]*$", str(error))
        else:
            tokenizer.encode("Hello, 世界\n")


def test_tokens_that_the_settings_add(llama2: Pieces, tmp_path: Path) -> None:
    size = len(llama2.pieces)
    (tmp_path / "tokenizer.model").write_bytes(written(llama2))
    (tmp_path / "added_tokens.json").write_text(f'{{"<new>": {size}}}')
    (tmp_path / "tokenizer_config.json").write_text(
        f'{{"added_tokens_decoder": {{"{size + 1}": {{"content": "<turn>", "special": true}}}},'
        ' "eos_token": "<turn>", "add_bos_token": false}'
    )
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": {"content": "<pad>"}}')
    tokenizer = tokenizer_of_folder(tmp_path, pytest.fail)
    assert tokenizer.vocab_size == size + 2
    ids = tokenizer.encode("a<new> b<turn>")
    assert size in ids
    assert ids[-1] == size + 1
    assert size + 1 in tokenizer.end_ids
    assert tokenizer.token_bytes(size) == b"<new>"
    assert tokenizer.token_bytes(size + 1) == b""
    assert not tokenizer.adds_bos
    assert tokenizer.bos_id == llama2.pieces.index("<pad>")
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "added_tokens.json").write_text(f'{{"<new>": {size + 7}}}')
    with pytest.raises(TokenizerError, match="add '<new>' as"):
        tokenizer_of_folder(tmp_path, pytest.fail)
    (tmp_path / "added_tokens.json").write_text('{"<new>": 5}')
    with pytest.raises(TokenizerError, match="have '<new>' as 5, where the file has"):
        tokenizer_of_folder(tmp_path, pytest.fail)
