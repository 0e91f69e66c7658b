"""A tokenizer from a ``tokenizer.json``, as model repositories carry it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers

from pipelines.common.errors import TokenizerError
from pipelines.common.text.tokenizer import Tokenizer


def load(path: Path) -> Tokenizer:
    """Reads a tokenizer, and its BOS and end tokens from the files that lie beside it.

    ``tokenizer_config.json`` names ``bos_token``, ``eos_token`` and ``add_bos_token``;
    ``generation_config.json`` has one or more ``eos_token_id``. Where they say nothing, BOS is what
    the tokenizer's own template puts in front of a text.

    Args:
        path: The file, or the folder that holds it.

    Raises:
        TokenizerError: A file is missing or malformed, or names tokens that do not exist.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    backend = _read_backend(file)
    ids = backend.get_vocab()
    config_file = file.with_name("tokenizer_config.json")
    config = _read_object(config_file) if config_file.exists() else {}
    template_bos_id = _template_bos_id(backend)
    bos_id = _token_id(config, "bos_token", ids, config_file)
    if bos_id is None:
        bos_id = template_bos_id
    adds_bos = config.get("add_bos_token")
    if not isinstance(adds_bos, bool):
        adds_bos = bos_id is not None and bos_id == template_bos_id
    end_ids = _generation_end_ids(file, set(ids.values()))
    eos_id = _token_id(config, "eos_token", ids, config_file)
    if eos_id is not None:
        end_ids.add(eos_id)
    return Tokenizer(
        backend,
        vocab_size=1 + max(ids.values(), default=-1),
        bos_id=bos_id,
        end_ids=end_ids,
        adds_bos=adds_bos,
        source=str(file),
    )


def _read_backend(file: Path) -> tokenizers.Tokenizer:
    document = _read_object(file)
    _check_bpe(document, file)
    try:
        backend = tokenizers.Tokenizer.from_buffer(file.read_bytes())
    except ValueError as error:
        raise TokenizerError(f"{file}: is not a tokenizer that can be read: {error}") from error
    backend.no_truncation()  # a file may carry limits that would cut a prompt silently
    backend.no_padding()
    return backend


def _read_object(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise TokenizerError(
            f"{file}: cannot be read: {error.strerror}; expected a tokenizer.json or its folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{file}: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise TokenizerError(f"{file}: expected a JSON object")
    return document


def _check_bpe(document: dict[str, Any], file: Path) -> None:
    """Checks what the library takes for granted: it panics at a merge that makes no token."""
    model = document.get("model")
    if not isinstance(model, dict):
        return
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(affix):
            raise TokenizerError(
                f"{file}: the vocabulary marks words with {affix} {model[affix]!r}; "
                "expected byte-level BPE, or SentencePiece with byte fall-back"
            )
    vocabulary, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not isinstance(merges, list):
        return
    for rank, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and all(isinstance(token, str) for token in pair)
            and "".join(pair) in vocabulary
        ):
            raise TokenizerError(f"{file}: merge {rank} does not name two tokens that make a third")


def _template_bos_id(backend: tokenizers.Tokenizer) -> int | None:
    """What the tokenizer's template puts in front of a text, if anything."""
    plain = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a", add_special_tokens=True).ids
    return framed[0] if framed[:1] != plain[:1] else None


def _token_id(config: dict[str, Any], name: str, ids: dict[str, int], file: Path) -> int | None:
    """The id of a token that a configuration names, as text or as an object with `content`."""
    token = config.get(name)
    if isinstance(token, dict):
        token = token.get("content")
    if token is None:
        return None
    if not isinstance(token, str) or token not in ids:
        raise TokenizerError(f"{file}: {name} is {token!r}, which the tokenizer does not have")
    return ids[token]


def _generation_end_ids(tokenizer_file: Path, known: set[int]) -> set[int]:
    file = tokenizer_file.with_name("generation_config.json")
    if not file.exists():
        return set()
    stated = _read_object(file).get("eos_token_id")
    end_ids = stated if isinstance(stated, list) else [] if stated is None else [stated]
    for id in end_ids:
        if not isinstance(id, int) or id not in known:
            raise TokenizerError(
                f"{file}: eos_token_id is {stated!r}, which the tokenizer does not have"
            )
    return set(end_ids)
