"""A tokenizer from tiktoken's file of ranks, as Meta publishes Llama 3's (``tokenizer.model``).

A line has a token in base64 and its rank, by which it is also merged: of two neighbours that make
a token, those that make the one of the lowest rank. How text is cut into words, and which tokens
follow those of the file, it does not say: they are those of Llama 3's own code, with the names of
Llama 3.1, which has some for what was reserved before.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tokenizers import models

from pipelines.common.errors import TokenizerError, quoted
from pipelines.common.text import bounds
from pipelines.common.text.byte_alphabet import byte_alphabet
from pipelines.common.text.byte_pairs import assembled
from pipelines.common.text.pre_tokenizers import LLAMA3
from pipelines.common.text.settings import Settings
from pipelines.common.text.tokenizer import Tokenizer

_LINE: Final = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d{1,7}\r?\n")

_SPECIAL_TOKENS: Final = 256
_NAMED: Final = {
    0: "begin_of_text",
    1: "end_of_text",
    4: "finetune_right_pad_id",
    6: "start_header_id",
    7: "end_header_id",
    8: "eom_id",
    9: "eot_id",
    10: "python_tag",
}
_CHARS: Final = {byte: char for char, byte in byte_alphabet().items()}


def is_tiktoken(content: bytes) -> bool:
    """Whether a file may be one, by its first line."""
    return _LINE.match(content[: 2 * bounds.MAX_TOKEN_BYTES]) is not None


def load(content: bytes, file: Path, notice: Callable[[str], None]) -> Tokenizer:
    """Reads a tokenizer.

    Args:
        content: Of the file.
        file: Where it is.
        notice: Told what is wrong with the settings beside it, or with the tokenizer, and does
            not keep it from being used.

    Raises:
        TokenizerError: A file is malformed or too large.
    """
    ids = _ranks(content, str(file))
    size = len(ids)
    special = [f"<|{name}|>" for name in _special_names()]
    for token in special:
        if token in ids:
            raise TokenizerError(f"{file}: has the control token {quoted(token)} among its words")
    model = models.BPE(ids | {t: size + n for n, t in enumerate(special)}, _merges(ids))
    backend = assembled(model, [(token, True) for token in special], LLAMA3)
    stated = Settings(file.parent, notice).special_tokens(
        backend.token_to_id,
        range(size + len(special)),
        bos_id=size,
        adds_bos=True,
        eos_id=size + 1,
    )
    tokenizer = Tokenizer(
        backend,
        vocab_size=size + len(special),
        bos_id=stated.bos_id,
        end_ids=stated.end_ids,
        eos_id=stated.eos_id,
        adds_bos=stated.adds_bos,
        source=str(file),
    )
    if remark := tokenizer.missing_bytes():
        notice(remark)
    return tokenizer


def _special_names() -> list[str]:
    reserved = iter(range(_SPECIAL_TOKENS))
    return [
        _NAMED.get(number) or f"reserved_special_token_{next(reserved)}"
        for number in range(_SPECIAL_TOKENS)
    ]


def _ranks(content: bytes, source: str) -> dict[str, int]:
    """The tokens, spelled as byte-level vocabularies are, in the order of their ids."""
    lines = content.splitlines()
    bounds.check_count(len(lines), bounds.MAX_TOKENS, "tokens", source)
    ids: dict[str, int] = {}
    for number, line in enumerate(lines):
        encoded, _, rank = line.partition(b" ")
        try:
            token = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            token = b""
        if not token or rank != b"%d" % number:
            raise TokenizerError(
                f"{source}: line {number + 1} is {quoted(line.decode(errors='replace'))}; expected"
                f" a token in base64, a space and {number}"
            )
        spelled = "".join([_CHARS[byte] for byte in token])
        if spelled in ids:
            raise TokenizerError(
                f"{source}: has the token {quoted(repr(token))} twice, as {ids[spelled]} and"
                f" {number}"
            )
        ids[spelled] = number
    bounds.check_tokens(ids, source)
    return ids


def _merges(ids: dict[str, int]) -> list[tuple[str, str]]:
    """Whatever two tokens make a third, by its rank.

    Of the pairs that make one token only one ever stands side by side, since the merges within
    it have an order that does not depend on what is around it; so theirs does not matter.
    """
    return [
        (token[:cut], token[cut:])
        for token in ids
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
