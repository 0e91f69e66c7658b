"""A tokenizer from a ``tokenizer.json``, as model repositories carry it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tokenizers

from pipelines.common.errors import TokenizerError, quoted
from pipelines.common.text.json_checks import check_document, template_bos_id
from pipelines.common.text.library import told_panics
from pipelines.common.text.settings import Settings, parse
from pipelines.common.text.tokenizer import Tokenizer


def load(content: bytes, file: Path, notice: Callable[[str], None]) -> Tokenizer:
    """Reads a tokenizer, and its BOS and end tokens from the settings that lie beside it.

    Where they say nothing, BOS is what the tokenizer's own template puts in front of a text.

    Args:
        content: Of the file.
        file: Where it is.
        notice: Told, in one line each, what is wrong with the tokenizer and does not keep it from
            being used.

    Raises:
        TokenizerError: A file is malformed or too large.
    """
    backend, template_bos = _read_backend(content, file)
    ids = backend.get_vocab()
    known = set(ids.values())
    if template_bos is not None and template_bos not in known:
        notice(f"{file}: the template begins with the unknown token {template_bos}; it is ignored")
        template_bos = None
    special = Settings(file.parent, notice).special_tokens(
        ids.get, known, bos_id=template_bos, adds_bos=template_bos is not None
    )
    tokenizer = Tokenizer(
        backend,
        vocab_size=1 + max(ids.values(), default=-1),
        bos_id=special.bos_id,
        end_ids=special.end_ids,
        eos_id=special.eos_id,
        adds_bos=special.adds_bos,
        source=str(file),
    )
    if remark := tokenizer.missing_bytes():
        notice(remark)
    return tokenizer


def _read_backend(content: bytes, file: Path) -> tuple[tokenizers.Tokenizer, int | None]:
    """The library's tokenizer, and what its template puts in front of a text."""
    document = parse(content, file)
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
