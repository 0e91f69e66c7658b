"""A tokenizer in the files that model repositories carry it in."""

from __future__ import annotations

import json
from typing import Any

from pipelines.common.chat.template import ChatSettings
from pipelines.common.export.manifest import TOKENIZER_SETTINGS
from pipelines.common.text.tokenizer import Tokenizer


def tokenizer_files(tokenizer: Tokenizer, chat: ChatSettings) -> dict[str, bytes]:
    """The files by name, as `pipelines.common.text.folder.tokenizer_of_folder` reads them."""
    vocabulary, bos_id = tokenizer.vocabulary, tokenizer.bos_id
    bos = None if bos_id is None else vocabulary.token_of(bos_id)
    config: dict[str, Any] = {"bos_token": bos, "add_bos_token": tokenizer.adds_bos}
    if chat.template is not None:  # for other programs: the driver reads it in the manifest
        config |= {"chat_template": chat.template, "eos_token": chat.eos_token or None}
    settings: tuple[dict[str, Any], ...] = (
        config,
        {"eos_token_id": sorted(tokenizer.end_ids)},
    )
    written = (json.dumps(setting, indent=1).encode() for setting in settings)
    return {**vocabulary.files(), **dict(zip(TOKENIZER_SETTINGS, written, strict=True))}
