"""A pipeline that repeats its prompt, byte by byte.

It needs no weights and no target, so it shows what the driver does for every pipeline (prompts,
sampling, stop strings, streaming, figures) and serves to test that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers

import pipelines
from pipelines.common.errors import UsageError
from pipelines.common.program.runner import Row
from pipelines.common.program.slot_runner import SlotRunner
from pipelines.common.progress import Progress
from pipelines.common.text.byte_alphabet import byte_alphabet
from pipelines.common.text.tokenizer import Tokenizer
from pipelines.common.text_generation import Lookup, ModelOptions

END_OF_TEXT = 256
VOCAB_SIZE = 257
CONTEXT_LENGTH = 4096

_CERTAINTY = 6.0
"""The logit of the token that comes next; all others are 0, so that a temperature has an effect."""


class EchoPipeline:
    """Opens the one model there is."""

    def open(
        self,
        options: ModelOptions,
        registry: Lookup,  # noqa: ARG002
        progress: Progress,  # noqa: ARG002
    ) -> EchoModel:
        """Makes the model.

        Raises:
            UsageError: A file is given, of which there is none to open.
        """
        if options.model_path is not None or options.tokenizer_path is not None:
            raise UsageError("echo reads no files; leave out `model_path` and `tokenizer_path`")
        if options.random is not None:
            raise UsageError("echo has no weights; leave out `random`")
        return EchoModel()


class EchoModel:
    """A byte-level tokenizer and a context length."""

    def __init__(self) -> None:
        self.tokenizer = _byte_tokenizer()
        self.context_length = CONTEXT_LENGTH

    def start(self, *, slots: int, max_length: int) -> EchoRunner:
        """Makes a runner; nothing is built or loaded."""
        return EchoRunner(slots, max_length)

    def describe(self) -> dict[str, Any]:
        """What runs."""
        return {
            "model": "echo",
            "encodings": {},
            "target": None,
            "versions": {"pipeline-driver": pipelines.__version__},
        }


class EchoRunner(SlotRunner):
    """Expects the tokens of the prompt, one after the other, and then the end of the text."""

    batch_invariant = True

    def __init__(self, slots: int, max_length: int) -> None:
        super().__init__(slots, max_length, VOCAB_SIZE)
        self._tokens: list[list[int]] = [[] for _ in range(slots)]
        self._prompt_lengths = [0] * slots

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
        """Takes a prompt, or the rest of one; returns logits of shape ``[vocab]``."""
        self._check(Row(slot, tokens, start))
        self._prompt_lengths[slot] = start + len(tokens)
        return super().prefill(slot, tokens, start)

    def _compute(
        self, first: int, tokens: NDArray[np.int64], wanted: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Takes tokens; of several for one slot each is the last of a prompt."""
        logits = np.empty((*wanted.shape, VOCAB_SIZE), np.float32)
        for place, row in enumerate(tokens):
            slot = first + place
            held = self._tokens[slot]
            held[self._lengths[slot] :] = row.tolist()
            for number, end in enumerate(self._lengths[slot] + 1 + wanted[place]):
                prompt_length = self._prompt_lengths[slot] if len(row) == 1 else end
                logits[place, number] = self._logits(held[:end], prompt_length)
        return logits

    def _copy(self, source: int, target: int, length: int) -> None:
        """Takes over the first tokens of another slot, and which of them were its prompt."""
        self._tokens[target] = self._tokens[source][:length]
        self._prompt_lengths[target] = min(length, self._prompt_lengths[source])

    def _logits(self, tokens: Sequence[int], prompt_length: int) -> NDArray[np.float32]:
        """What follows tokens that begin with a prompt, ``[vocab]``."""
        repeated = len(tokens) - prompt_length
        logits = np.zeros(VOCAB_SIZE, np.float32)
        logits[tokens[repeated] if repeated < prompt_length else END_OF_TEXT] = _CERTAINTY
        return logits


def _byte_tokenizer() -> Tokenizer:
    """A vocabulary of the 256 bytes, whose ids are the bytes, and an end token."""
    backend = tokenizers.Tokenizer(models.BPE(vocab=byte_alphabet(), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end_of_text|>"])
    return Tokenizer(
        backend,
        vocab_size=VOCAB_SIZE,
        bos_id=None,
        end_ids=[END_OF_TEXT],
        adds_bos=False,
        source="echo",
    )
