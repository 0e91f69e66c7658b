"""What a folder suggests for sampling, in GGUF's keys; ``generation_config.json`` says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipelines.common.checkpoints.json_file import MAX_CONFIG_BYTES, read_object
from pipelines.common.files import exists

GENERATION_CONFIG: Final = "generation_config.json"

_PREFIX: Final = "general.sampling."

_DRAWING: Final = ("temperature", "top_k", "top_p", "min_p", "typical_p")
"""What has a part only where tokens are drawn."""

_KEYS: Final[Mapping[str, str]] = {
    **{name: name for name in _DRAWING},
    "temperature": "temp",
    "repetition_penalty": "penalty_repeat",
}
"""llama.cpp's names, but for `typical_p`, which it has none for."""


def sampling_metadata(folder: Path) -> dict[str, Any]:
    """The settings that a folder states, as they stand there: nobody has checked them.

    Where it draws no tokens (``"do_sample": false``) the temperature is 0. Where it draws them and
    states no temperature, that is 1, as `transformers` has it.

    Raises:
        ModelFileError: The file cannot be read, or is no JSON object.
    """
    path = folder / GENERATION_CONFIG
    if not exists(path):
        return {}
    stated = read_object(path, MAX_CONFIG_BYTES)
    draws = stated.get("do_sample")
    if draws is True:
        stated.setdefault("temperature", 1.0)
    if draws is False:
        stated = {key: value for key, value in stated.items() if key not in _DRAWING}
        stated["temperature"] = 0.0
    return {
        f"{_PREFIX}{name}": _scalar(stated[key])
        for key, name in _KEYS.items()
        if stated.get(key) is not None
    }


def _scalar(value: Any) -> bool | int | float | str:
    """A value as metadata can hold it: what is no setting in any case as its text in JSON."""
    fits = isinstance(value, int) and abs(value) < 1 << 63
    return value if isinstance(value, str | float) or fits else json.dumps(value)
