"""A tokenizer in the files that model repositories carry it in."""

from __future__ import annotations

import json

from pipelines.common.export.manifest import TOKENIZER
from pipelines.common.text.tokenizer import Tokenizer


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, str]:
    """The files by name, as `pipelines.common.text.json_tokenizer` reads them."""
    bos = None if tokenizer.bos_id is None else tokenizer.backend.id_to_token(tokenizer.bos_id)
    documents = (
        tokenizer.backend.to_str(),
        json.dumps({"bos_token": bos, "add_bos_token": tokenizer.adds_bos}, indent=1),
        json.dumps({"eos_token_id": sorted(tokenizer.end_ids)}, indent=1),
    )
    return dict(zip(TOKENIZER, documents, strict=True))
