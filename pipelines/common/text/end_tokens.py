"""Which tokens end a text by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

END_TOKENS: Final = frozenset(
    {
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<|endoftext|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|calls|>",
        "<|flush|>",
        "<|tool_response>",
        "<end_of_turn>",
        "<turn|>",
        "<end_of_utterance>",
        "<eos>",
        "</s>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "[e~[",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        # Where code was learned with gaps: padding, and what another file begins with.
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<PAD>",
        "[PAD]",
        "<|fim_repo|>",
        "<fim-repo>",
        "<|repo_name|>",
        "<reponame>",
        "<REPO>",
        "<|file_sep|>",
    }
)
"""The names that llama.cpp takes for the end of a generation, whatever type a file gives them."""

_CALLS: Final = frozenset({"<|call|>", "<|calls|>"})
_ENDS_BESIDE_CALLS: Final = frozenset({"<|return|>", "<|flush|>"})


def named_end_tokens(id_of: Callable[[str], int | None]) -> dict[str, int]:
    """The end tokens that a vocabulary has by their names.

    Args:
        id_of: The id of a token, or None where the vocabulary has none of that name.
    """
    found = {name: id for name in sorted(END_TOKENS) if (id := id_of(name)) is not None}
    # Of a message, which the answer may go on after.
    if not _CALLS.isdisjoint(found) and not _ENDS_BESIDE_CALLS.isdisjoint(found):
        found.pop("<|end|>", None)
    # Markup among others, where turns end otherwise.
    if "<|tool_response>" in found:
        found.pop("</s>", None)
    return found
