"""The tokenizer of a folder, as model repositories carry it, whatever file it is in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines.common.text import json_tokenizer
from pipelines.common.text.tokenizer import Tokenizer


def tokenizer_of_folder(path: Path, notice: Callable[[str], None]) -> Tokenizer:
    """Reads the tokenizer that lies in a folder, or in one file of it.

    BOS, EOS and end tokens come from ``tokenizer_config.json``, ``special_tokens_map.json`` and
    ``generation_config.json`` beside it.

    Args:
        path: The folder, or the file.
        notice: Told, in one line each, what is wrong with the tokenizer and does not keep it from
            being used.

    Raises:
        TokenizerError: There is none, or it is malformed, too large or of a kind that is not
            supported.
    """
    return json_tokenizer.load(path, notice)
