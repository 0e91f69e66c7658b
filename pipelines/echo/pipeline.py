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
from pipelines.common.program.runner import check_copy, check_prompt, check_step
from pipelines.common.progress import Progress
from pipelines.common.text.tokenizer import Tokenizer, byte_alphabet
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
            raise UsageError("echo reads no files; leave out --model-path and --tokenizer-path")
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


class EchoRunner:
    """Expects the tokens of the prompt, one after the other, and then the end of the text."""

    batch_invariant = True

    def __init__(self, slots: int, max_length: int) -> None:
        self.slots = slots
        self.max_length = max_length
        self._tokens: list[list[int]] = [[] for _ in range(slots)]
        self._prompt_lengths = [0] * slots

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
        """Takes a prompt, or the rest of one; returns logits of shape ``[vocab]``."""
        check_prompt(self, VOCAB_SIZE, slot, tokens, start)
        self._tokens[slot][start:] = tokens
        self._prompt_lengths[slot] = len(self._tokens[slot])
        return self._logits(slot)

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Moves the first slots on by one; logits of shape ``[len(tokens), vocab]``."""
        check_step(self, VOCAB_SIZE, tokens, [*map(len, self._tokens)])
        for slot, token in enumerate(tokens):
            self._tokens[slot].append(token)
        return np.stack([self._logits(slot) for slot in range(len(tokens))])

    def copy(self, source: int, target: int, length: int) -> None:
        """Takes over the first tokens of another slot, and which of them were its prompt."""
        check_copy(self, source, target, length, [*map(len, self._tokens)])
        self._tokens[target] = self._tokens[source][:length]
        self._prompt_lengths[target] = min(length, self._prompt_lengths[source])

    def score(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits after each prefix of `tokens` taken as a prompt, shape ``[tokens, vocab]``."""
        check_prompt(self, VOCAB_SIZE, 0, tokens)
        return np.stack([self.prefill(0, tokens[: end + 1]) for end in range(len(tokens))])

    def _logits(self, slot: int) -> NDArray[np.float32]:
        tokens, prompt_length = self._tokens[slot], self._prompt_lengths[slot]
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
