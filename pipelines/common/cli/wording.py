"""The command line's names for settings, in the place of Python's."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Final

OPTIONS: Final[Mapping[str, str]] = {
    "OutputStream": "--output -",
    "chat=True": "--chat",
    "chat_template": "--chat-template",
    "context": "--context",
    "custom_ops": "--custom-ops-path",
    "device": "--device-id",
    "dry_allowed_length": "--dry-allowed-length",
    "dry_base": "--dry-base",
    "dry_multiplier": "--dry-multiplier",
    "dry_penalty_last_n": "--dry-penalty-last-n",
    "dry_sequence_breakers": "--dry-sequence-breaker",
    "encoding": "--quantization-encoding",
    "frequency_penalty": "--frequency-penalty",
    "left_out": "--no-plugin NAME before the command",
    "logit_bias": "--logit-bias",
    "logprobs": "--logprobs",
    "max_length": "--max-length",
    "min_p": "--min-p",
    "model_path": "--model-path",
    "native_ops=False": "--no-native-ops",
    "offline=True": "--offline",
    "output": "--output",
    "pack_cache": "--pack-cache",
    "presence_penalty": "--presence-penalty",
    "prompts": "--prompt",
    "random": "--random-weights",
    "reference_weights=True": "--reference-weights",
    "repeat_last_n": "--repeat-last-n",
    "repetition_penalty": "--repetition-penalty",
    "resume": "--resume",
    "samplers": "--samplers",
    "seed": "--seed",
    "slots": "--batch-size",
    "stops": "--stop",
    "system": "--system-prompt",
    "strict=True": "--strict-plugins before the command",
    "target": "--target",
    "temperature": "--temperature",
    "threads": "--threads",
    "tokenizer_path": "--tokenizer-path",
    "top_k": "--top-k",
    "top_n_sigma": "--top-n-sigma",
    "top_p": "--top-p",
    "typical_p": "--typical-p",
    "xtc_probability": "--xtc-probability",
    "xtc_threshold": "--xtc-threshold",
}
"""What users of the command line know each setting by that messages name."""

SETTING: Final = re.compile(r"`(\w+(?:=\w+)?)`")
"""How messages name one, see `pipelines.common.errors`."""


def worded(message: str) -> str:
    """A message of the library, with options where it names settings.

    What the user's own words have between backquotes stays: it may be the name of a file that the
    message quotes. Text from files has none, see `quoted`.
    """
    typed = SETTING.findall(" ".join((*sys.argv[1:], *os.environ.values())))
    return SETTING.sub(
        lambda match: match[0] if match[1] in typed else OPTIONS.get(match[1], match[0]), message
    )
