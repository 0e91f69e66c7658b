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
    "custom_ops": "--custom-ops-path",
    "device": "--device-id",
    "encoding": "--quantization-encoding",
    "left_out": "--no-plugin NAME before the command",
    "max_length": "--max-length",
    "min_p": "--min-p",
    "model_path": "--model-path",
    "native_ops=False": "--no-native-ops",
    "offline=True": "--offline",
    "output": "--output",
    "prompts": "--prompt",
    "reference_weights=True": "--reference-weights",
    "random": "--random-weights",
    "repetition_penalty": "--repetition-penalty",
    "resume": "--resume",
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
    "top_p": "--top-p",
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
