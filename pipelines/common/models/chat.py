"""What model files and exported folders say of conversations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from pipelines.common.chat.named import shipped_template
from pipelines.common.chat.template import ChatSettings
from pipelines.common.checkpoints.checkpoint import Metadata
from pipelines.common.text.tokenizer import Tokenizer

_TEMPLATE = "tokenizer.chat_template"
_EOS = "tokenizer.ggml.eos_token_id"

_SAMPLING: Final[Mapping[str, str]] = {
    "sequence": "samplers",
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "penalty_last_n": "repeat_last_n",
    "penalty_repeat": "repetition_penalty",
    "mirostat": "mirostat",
}
"""Settings by the last part of the key that suggests them."""

_NARROWS: Final = frozenset({"top_k", "top_p", "min_p", "typical_p"})
_USUAL_TEMPERATURE: Final = 1.0
"""Of `transformers`, where tokens are drawn and nothing else is said."""


def chat_settings_of(metadata: Metadata, tokenizer: Tokenizer, usual: str = "") -> ChatSettings:
    """What a checkpoint says.

    Args:
        metadata: The checkpoint's.
        tokenizer: The one that is used with it.
        usual: Name of the template that is meant where it has none.

    Raises:
        ModelFileError: A key is of the wrong type.
    """
    eos = metadata.integer(_EOS, tokenizer.eos_id)
    spelled = "" if eos is None else tokenizer.decode([eos], special=True)
    template = metadata.string(_TEMPLATE, None)
    if template is None and usual:
        template = shipped_template(usual).text
    return ChatSettings(template, spelled, _suggested(metadata))


def _suggested(metadata: Metadata) -> dict[str, bool | int | float | str]:
    """The settings of sampling that a checkpoint suggests, by name.

    What narrows a choice makes sense only where there is one.
    """
    keys = {f"general.sampling.{key}": name for key, name in _SAMPLING.items()}
    found = {name: _plain(metadata[key]) for key, name in keys.items() if key in metadata}
    if found.keys() & _NARROWS:
        found.setdefault("temperature", _USUAL_TEMPERATURE)
    return found


def _plain(value: Any) -> bool | int | float | str:
    """A value as JSON can have it; of a number what float32, which GGUF has, says of it."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.7g}")
    return value if isinstance(value, int | str) else str(value)
