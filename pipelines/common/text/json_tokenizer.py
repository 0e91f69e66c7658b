"""A tokenizer from a ``tokenizer.json``, as model repositories carry it."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, Final

import tokenizers

from pipelines.common.errors import TokenizerError
from pipelines.common.files import is_folder, read_document
from pipelines.common.text import bounds
from pipelines.common.text.tokenizer import Tokenizer
from pipelines.common.weights.model_file import quoted

_MAX_TOKENIZER_BYTES: Final = 64 << 20
"""Twice the largest of models."""

_MAX_SETTINGS_BYTES: Final = 4 << 20

_MAX_VALUES: Final = 1 << 22
"""In a file, twice as many as the largest has; each is an object of up to a hundred bytes."""


def load(path: Path, notice: Callable[[str], None]) -> Tokenizer:
    """Reads a tokenizer, and its BOS and end tokens from the files that lie beside it.

    ``tokenizer_config.json`` names ``bos_token``, ``eos_token`` and ``add_bos_token``;
    ``generation_config.json`` has one or more ``eos_token_id``. Where they say nothing, BOS is what
    the tokenizer's own template puts in front of a text.

    Args:
        path: The file, or the folder that holds it.
        notice: Told, in one line each, what is wrong with the tokenizer and does not keep it from
            being used.

    Raises:
        TokenizerError: A file is missing, malformed or too large.
    """
    file = path / "tokenizer.json" if is_folder(path) else path
    backend = _read_backend(file)
    ids = backend.get_vocab()
    config_file = file.with_name("tokenizer_config.json")
    config = _read_settings(config_file)
    template_bos_id = _template_bos_id(backend)
    bos_id = _token_id(config, "bos_token", ids, config_file, notice)
    if bos_id is None:
        bos_id = template_bos_id
    adds_bos = config.get("add_bos_token")
    if not isinstance(adds_bos, bool):
        adds_bos = bos_id is not None and bos_id == template_bos_id
    end_ids = _generation_end_ids(file, set(ids.values()), notice)
    eos_id = _token_id(config, "eos_token", ids, config_file, notice)
    if eos_id is not None:
        end_ids.add(eos_id)
    tokenizer = Tokenizer(
        backend,
        vocab_size=1 + max(ids.values(), default=-1),
        bos_id=bos_id,
        end_ids=end_ids,
        adds_bos=adds_bos,
        source=str(file),
    )
    if remark := tokenizer.missing_bytes():
        notice(remark)
    return tokenizer


def _read_backend(file: Path) -> tokenizers.Tokenizer:
    try:
        content = read_document(file, _MAX_TOKENIZER_BYTES)
    except OSError as error:
        raise TokenizerError(
            f"{file}: cannot be read: {error.strerror}; expected a tokenizer.json or its folder"
        ) from error
    document = _parse(content, file)
    _check_bounds(document, file)
    _check_bpe(document, file)
    _check_template(document.get("post_processor"), file)
    try:
        backend = tokenizers.Tokenizer.from_buffer(content)
    except ValueError as error:
        said = str(error).removeprefix("Cannot instantiate Tokenizer from buffer: ")
        raise TokenizerError(
            f"{file}: is not a tokenizer that can be read: {quoted(said)}"
        ) from error
    backend.no_truncation()  # a file may carry limits that would cut a prompt silently
    backend.no_padding()
    return backend


def _read_settings(file: Path) -> dict[str, Any]:
    """An object of settings; an empty one where there is no file."""
    try:
        content = read_document(file, _MAX_SETTINGS_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TokenizerError(f"{file}: cannot be read: {error.strerror}") from error
    return _parse(content, file)


def _parse(content: bytes, file: Path) -> dict[str, Any]:
    if sum(map(content.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise TokenizerError(f"{file}: holds more than {_MAX_VALUES:,} values")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{file}: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise TokenizerError(f"{file}: expected a JSON object")
    return document


def _check_bounds(document: Mapping[str, Any], file: Path) -> None:
    """Checks how large the vocabulary is; the library makes a table of as many rows as ids go."""
    source = str(file)
    model, added = document.get("model"), document.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        bounds.check_tokens(vocabulary, source)
        bounds.check_ids(vocabulary.values(), source)
    if isinstance(added, list):
        tokens = [token for token in added if isinstance(token, dict)]
        contents = [str(token.get("content")) for token in tokens]
        bounds.check_tokens(contents, source)
        bounds.check_added(contents, source)
        bounds.check_ids((token.get("id") for token in tokens), source)


def _check_bpe(document: dict[str, Any], file: Path) -> None:
    """Checks what the library takes for granted: it panics at a merge that makes no token."""
    model = document.get("model")
    if not isinstance(model, dict):
        return
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(affix):
            raise TokenizerError(
                f"{file}: the vocabulary marks words with {affix} {quoted(str(model[affix]))}; "
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


def _check_template(post_processor: object, file: Path) -> None:
    """Checks the same of templates: it panics at a special token that one does not describe."""
    if not isinstance(post_processor, dict):
        return
    for part in _items(post_processor.get("processors")):
        _check_template(part, file)
    described = post_processor.get("special_tokens")
    for form in ("single", "pair"):
        for piece in _items(post_processor.get(form)):
            token = piece.get("SpecialToken") if isinstance(piece, dict) else None
            name = token.get("id") if isinstance(token, dict) else None
            if isinstance(name, str) and not (isinstance(described, dict) and name in described):
                raise TokenizerError(
                    f"{file}: the template has the special token {quoted(name)}, which it does not"
                    " describe"
                )


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _template_bos_id(backend: tokenizers.Tokenizer) -> int | None:
    """What the tokenizer's template puts in front of a text, if anything."""
    plain = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a", add_special_tokens=True).ids
    return framed[0] if framed[:1] != plain[:1] else None


def _token_id(
    config: Mapping[str, Any],
    name: str,
    ids: Mapping[str, int],
    file: Path,
    notice: Callable[[str], None],
) -> int | None:
    """The id of a token that a configuration names, as text or as an object with `content`."""
    token = config.get(name)
    if isinstance(token, dict):
        token = token.get("content")
    if token is None:
        return None
    if not isinstance(token, str):
        raise TokenizerError(f"{file}: {name} is {quoted(str(token))}, expected a token")
    if token not in ids:
        notice(
            f"{file}: {name} is {quoted(token)}, which the tokenizer does not have; it is ignored"
        )
    return ids.get(token)


def _generation_end_ids(
    tokenizer_file: Path, known: Container[int], notice: Callable[[str], None]
) -> set[int]:
    file = tokenizer_file.with_name("generation_config.json")
    stated = _read_settings(file).get("eos_token_id")
    ids = stated if isinstance(stated, list) else [] if stated is None else [stated]
    if not all(type(id) is int for id in ids):
        raise TokenizerError(
            f"{file}: eos_token_id is {quoted(str(stated))}, expected a token id or several"
        )
    unknown = [id for id in ids if id not in known]
    if unknown:
        notice(
            f"{file}: eos_token_id is {quoted(str(stated))}, of which the tokenizer does not have"
            f" {unknown[0]}; it is ignored"
        )
    return set(ids) - set(unknown)
