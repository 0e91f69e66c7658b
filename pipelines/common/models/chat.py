"""What model files and exported folders say of conversations."""

from __future__ import annotations

from pipelines.common.chat.named import shipped_template
from pipelines.common.chat.template import ChatSettings
from pipelines.common.checkpoints.checkpoint import Metadata
from pipelines.common.text.tokenizer import Tokenizer

_TEMPLATE = "tokenizer.chat_template"
_EOS = "tokenizer.ggml.eos_token_id"


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
    return ChatSettings(template, spelled)
