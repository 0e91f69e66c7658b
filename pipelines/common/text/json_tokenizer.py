"""A tokenizer from a ``tokenizer.json``, as model repositories carry it."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, Final

import tokenizers

from pipelines.common.errors import TokenizerError, quoted
from pipelines.common.files import is_folder, read_document
from pipelines.common.text.json_checks import check_document, template_bos_id
from pipelines.common.text.tokenizer import Tokenizer, told_panics

_MAX_TOKENIZER_BYTES: Final = 64 << 20
"""Twice the largest of models."""

_MAX_SETTINGS_BYTES: Final = 4 << 20

_MAX_VALUES: Final = 5 << 20
"""In a file: one a token and three a merge, up to their bounds. Each takes up to 100 bytes."""


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
    backend, template_bos = _read_backend(file)
    ids = backend.get_vocab()
    known = set(ids.values())
    if template_bos is not None and template_bos not in known:
        notice(f"{file}: the template begins with the unknown token {template_bos}; it is ignored")
        template_bos = None
    config_file = file.with_name("tokenizer_config.json")
    config = _read_settings(config_file)
    bos_id = _token_id(config, "bos_token", ids, config_file, notice)
    if bos_id is None:
        bos_id = template_bos
    adds_bos = config.get("add_bos_token")
    if not isinstance(adds_bos, bool):
        adds_bos = bos_id is not None and bos_id == template_bos
    end_ids = _generation_end_ids(file, known, notice)
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


def _read_backend(file: Path) -> tuple[tokenizers.Tokenizer, int | None]:
    """The library's tokenizer, and what its template puts in front of a text."""
    try:
        content = read_document(file, _MAX_TOKENIZER_BYTES)
    except OSError as error:
        raise TokenizerError(
            f"{file}: cannot be read: {error.strerror}; expected a tokenizer.json or its folder"
        ) from error
    document = _parse(content, file)
    check_document(document, str(file))
    try:
        with told_panics(str(file)):
            backend = tokenizers.Tokenizer.from_buffer(content)
    except ValueError as error:
        said = str(error).removeprefix("Cannot instantiate Tokenizer from buffer: ")
        raise TokenizerError(
            f"{file}: is not a tokenizer that can be read: {quoted(said)}"
        ) from error
    backend.no_truncation()  # a file may carry limits that would cut a prompt silently
    backend.no_padding()
    return backend, template_bos_id(document.get("post_processor"))


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
