"""A tokenizer of a folder in GGUF's keys, as `byte_pairs` and `sentence_pieces` read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final

import tokenizers
from tokenizers import models

from pipelines.common.errors import TokenizerError, listed, quoted
from pipelines.common.text.byte_pairs import assembled
from pipelines.common.text.end_tokens import named_end_tokens
from pipelines.common.text.library import LibraryVocabulary
from pipelines.common.text.pre_tokenizers import PRE_TOKENIZERS
from pipelines.common.text.sentence_piece_file import FILE_NAME, read
from pipelines.common.text.sentence_pieces import SPACE, Pieces, PieceType, SentencePieces
from pipelines.common.text.tokenizer import Tokenizer

PROBE: Final = (
    "Hello, World's  HELLO'S we'll  WE'LL camelCase HTMLParser don't 3 33 333 4444 12345678 x1y22"
    " 1.5e-3 $9,999 ½ ² Ⅷ ٣٤٥ \t\ttabs\n\n\nlines \r\n\r\n  indented\n    more   \n"
    " /usr/bin//x --flag=a_b __init__() {}[]<>;:!!?? ... «quoted» ¡! §¶ +<=>^~|`\\/\n/path"
    " 你好世界。 ひらがなカタカナ 한국어 ไทย हिन्दी क्षि Ünïcödé e\u0301cole ǅ ʰx"
    " \U0001d400\U0001d401 日本語abc"
    " \u00a0nbsp\u3000wide 😀👨\u200d👩 'S 'Re ' t !abc#def @user !?\r\nend\r word-word"
    "  7 l'Study 's"
)
"""A text that known ways of cutting words cut differently, each from each other."""

_PRE: Final = "tokenizer.ggml."


class _Type(IntEnum):
    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


def tokenizer_keys(
    tokenizer: Tokenizer, size: int, notice: Callable[[str], None]
) -> dict[str, Any]:
    """All keys that a GGUF file has of a tokenizer.

    Args:
        tokenizer: Byte-level BPE of the `tokenizers` library, or SentencePiece's BPE.
        size: Rows of the embedding; what has no token is filled up, since there is to be one each.
        notice: Told, in one line each, what GGUF has no key for.

    Raises:
        TokenizerError: It is of another kind, or works in a way that GGUF has no name for.
    """
    vocabulary = tokenizer.vocabulary
    if isinstance(vocabulary, SentencePieces):
        keys = _of_pieces(read(vocabulary.files()[FILE_NAME], tokenizer.source).pieces, size)
    elif isinstance(vocabulary, LibraryVocabulary):
        keys = _of_byte_pairs(vocabulary.backend, size, tokenizer.source, notice)
    else:
        raise _unsaid(tokenizer.source, "is of a kind of its own")
    keys["add_bos_token"] = tokenizer.adds_bos
    keys |= _ends(tokenizer, notice)
    if tokenizer.bos_id is not None:
        keys["bos_token_id"] = tokenizer.bos_id
    return {f"{_PRE}{key}": value for key, value in keys.items()}


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer of the library is byte-level BPE."""
    vocabulary = tokenizer.vocabulary
    if not isinstance(vocabulary, LibraryVocabulary):
        return False
    decoder = vocabulary.backend.decoder
    return isinstance(vocabulary.backend.model, models.BPE) and "ByteLevel" in str(decoder)


def _of_pieces(pieces: Pieces, size: int) -> dict[str, Any]:
    tokens = [
        # As llama.cpp's converter has the user's.
        piece.replace(SPACE, " ") if kind == PieceType.USER_DEFINED else piece
        for piece, kind in zip(pieces.pieces, pieces.types, strict=True)
    ]
    more = range(len(tokens), size)
    keys = {
        "model": "llama",
        "pre": "default",
        "tokens": [*tokens, *map(_filler, more)],
        "scores": [*map(float, pieces.scores), *(-1000.0 for _ in more)],
        "token_type": [*map(int, pieces.types), *(int(_Type.UNUSED) for _ in more)],
        "add_space_prefix": pieces.adds_space,
        "remove_extra_whitespaces": pieces.collapses_spaces,
    }
    if PieceType.UNKNOWN in pieces.types:
        keys["unknown_token_id"] = [*pieces.types].index(PieceType.UNKNOWN)
    return keys


def _of_byte_pairs(
    backend: tokenizers.Tokenizer, size: int, source: str, notice: Callable[[str], None]
) -> dict[str, Any]:
    document: Mapping[str, Any] = json.loads(backend.to_str())
    model = document["model"]
    if model["type"] != "BPE" or "ByteLevel" not in str(backend.decoder):
        raise _unsaid(source, f"is {quoted(model['type'])}, and not byte-level BPE")
    spellings = {id: token for token, id in backend.get_vocab().items()}
    ids = range(max(size, 1 + max(spellings)))
    types = dict.fromkeys(spellings, _Type.NORMAL)
    stripping = []
    for token in document["added_tokens"]:
        types[token["id"]] = _Type.CONTROL if token["special"] else _Type.USER_DEFINED
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            stripping.append(token["content"])
    if stripping:
        notice(
            f"{source}: {listed(map(quoted, stripping))} takes spaces beside it away, or stands"
            " apart from words; GGUF has no key for that, and texts with it are cut otherwise"
        )
    merges = [
        merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"] or []
    ]
    if not merges:
        raise _unsaid(source, "has no merges")
    return {
        "model": "gpt2",
        "pre": _name_of(backend, document, source),
        "tokens": [spellings.get(id, _filler(id)) for id in ids],
        "token_type": [int(types.get(id, _Type.UNUSED)) for id in ids],
        "merges": merges,
    }


def _name_of(backend: tokenizers.Tokenizer, document: Mapping[str, Any], source: str) -> str:
    """What GGUF calls the way in which texts are cut into words, told by what it does.

    A name says whether words that are tokens are taken whole, too; where merges come to the same,
    as those do that tiktoken's ranks stand for, any name will do.
    """
    words, ignores_merges = _words(backend), bool(document["model"].get("ignore_merges"))
    alike = {
        name: known
        for name, known in PRE_TOKENIZERS.items()
        if words == _words(assembled(models.BPE(), (), known))
    }
    for name, known in alike.items():
        if known.ignore_merges == ignores_merges:
            return name
    if alike and _merges_make_all(document):
        return next(iter(alike))
    raise _unsaid(source, "cuts texts into words in a way that has no name there")


def _merges_make_all(document: Mapping[str, Any]) -> bool:
    """Whether each token of a vocabulary is what its characters are merged to."""
    model = {**document["model"], "ignore_merges": False}
    merging = tokenizers.Tokenizer.from_str(json.dumps({"model": model})).model
    return all(len(merging.tokenize(token)) == 1 for token in model["vocab"])


def _words(backend: tokenizers.Tokenizer) -> list[str] | None:
    """The words of the probe; None where it is not cut."""
    text = PROBE if backend.normalizer is None else backend.normalizer.normalize_str(PROBE)
    if backend.pre_tokenizer is None:
        return None
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]


def _ends(tokenizer: Tokenizer, notice: Callable[[str], None]) -> dict[str, int]:
    """Keys of the end tokens; of those that are known by their names no key is needed."""
    named = {*named_end_tokens(tokenizer.vocabulary.id_of).values()}
    eos = tokenizer.eos_id
    if eos is None and tokenizer.end_ids:
        eos = min(tokenizer.end_ids)
    keys = {} if eos is None else {"eos_token_id": eos}
    others = sorted(tokenizer.end_ids - named - {eos})
    keys |= dict(zip(("eot_token_id", "eom_token_id"), others, strict=False))
    if left := others[2:]:
        notice(
            f"{tokenizer.source}: GGUF has no key for so many tokens that end a text; left out:"
            f" {listed(map(str, left))}"
        )
    return keys


def _filler(id: int) -> str:
    """What llama.cpp's converter has in the place of a token that is none."""
    return f"[PAD{id}]"


def _unsaid(source: str, why: str) -> TokenizerError:
    return TokenizerError(
        f"{source}: the tokenizer {why}, so GGUF's keys cannot say it; expected byte-level BPE with"
        " words cut as by a model that llama.cpp names, or SentencePiece's tokenizer.model"
    )
