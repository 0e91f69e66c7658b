"""Runs a graph of fixed shapes, of which there is a session for each length of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.ort import arithmetic
from pipelines.common.ort.op_errors import NOBODY, Makers
from pipelines.common.ort.session import bind, input_types
from pipelines.common.program.runner import check_copy, check_prompt, check_step
from pipelines.common.targets.coreml.rules import EMBEDDED
from pipelines.common.targets.coreml.weights import Embed

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LENGTHS = (1, 16, 128)
"""How many tokens a call can have. Shorter ones are padded; each length has a session."""

_FIXED_COST = 64
"""What a call costs beside its tokens, in tokens: every weight is read once."""

_LEAST_CAPACITY = 256


def capacity(max_length: int) -> int:
    """Tokens that the KV state of a slot has room for: a power of two.

    It is one of the sizes that a graph is compiled for, so few values should occur.
    """
    return max(_LEAST_CAPACITY, 1 << (max_length - 1).bit_length())


def call_length(tokens: int) -> int:
    """The length of the next call, when so many tokens are left to compute."""
    return min(LENGTHS, key=lambda length: -(-tokens // length) * (_FIXED_COST + length))


class CoreMLRunner:
    """Implements `pipelines.common.program.runner.Runner`.

    Sequences are computed one after the other. The KV state goes into a call and comes out of it,
    so each slot has two sets of keys and values, ``[1, kv_heads, capacity, head_dim]``, that take
    turns.

    Args:
        session: Makes the session of a length; it is asked for when a call of that length comes.
        config: The decoder's dimensions.
        embed: Token ids to vectors; None if the graph does that.
        rotary: Tables of cosines and sines, each ``[capacity, head_dim / 2]``.
        slots: Sequences side by side.
        max_length: Tokens a slot can hold.
        makers: Who has made the graph.
    """

    batch_invariant = False  # a call's length decides how the provider computes it

    def __init__(
        self,
        session: Callable[[int], InferenceSession],
        config: DecoderConfig,
        embed: Embed | None,
        rotary: tuple[NDArray[np.float32], NDArray[np.float32]],
        *,
        slots: int,
        max_length: int,
        makers: Makers = NOBODY,
    ) -> None:
        self._session = session
        self._sessions: dict[int, InferenceSession] = {}
        self._config = config
        self._embed = embed
        self._rotary = rotary
        self._makers = makers
        self._types = input_types(self._session_of(1))
        shape = (1, config.kv_heads, capacity(max_length), config.head_dim)
        names = [f"{half}.{layer}" for half in ("key", "value") for layer in range(config.layers)]
        self._states = [
            [{name: np.zeros(shape, self._types[name]) for name in names} for _ in range(2)]
            for _ in range(slots)
        ]
        self._lengths = [0] * slots
        self._logits = np.empty((slots, config.vocabulary), np.float32)
        self.slots = slots
        self.max_length = max_length

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
        """Writes `tokens` into `slot`, see `Runner.prefill`."""
        check_prompt(self, self._config.vocabulary, slot, tokens, start)
        self._forget(slot, start)
        done = 0
        while done < len(tokens):
            length = call_length(len(tokens) - done)
            logits = self._run(slot, tokens[done : done + length], length)
            done += length
        return logits

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Appends a token to each of the first slots, see `Runner.decode`."""
        check_step(self, self._config.vocabulary, tokens, self._lengths)
        for slot, token in enumerate(tokens):
            self._logits[slot] = self._run(slot, [token], 1)
        return self._logits[: len(tokens)]

    def copy(self, source: int, target: int, length: int) -> None:
        """Makes the first tokens of one slot those of another, see `Runner.copy`."""
        check_copy(self, source, target, length, self._lengths)
        self._forget(target, length)
        for name, array in self._states[target][0].items():
            array[:, :, :length] = self._states[source][0][name][:, :, :length]

    def score(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits after every token, see `Runner.score`; a call gives those after its last one."""
        check_prompt(self, self._config.vocabulary, 0, tokens)
        self._forget(0, 0)
        return np.stack([self._run(0, [token], 1) for token in tokens])

    def _forget(self, slot: int, start: int) -> None:
        """Leaves a slot its first tokens."""
        for array in self._states[slot][0].values():
            array[:, :, start:] = (
                0  # what is not finite would spoil the sums that it has no part in
            )
        self._lengths[slot] = start

    def _session_of(self, length: int) -> InferenceSession:
        if length not in self._sessions:
            self._sessions[length] = self._session(length)
        return self._sessions[length]

    def _run(self, slot: int, tokens: Sequence[int], length: int) -> NDArray[np.float32]:
        """Appends tokens to a slot, padded to `length`: logits after the last, ``[vocabulary]``.

        Raises:
            PipelineError: See `Makers.explain_run`.
        """
        session = self._session_of(length)
        past, new = self._states[slot]
        inputs = {**self._inputs(slot, tokens, length), **past}
        columns = session.get_outputs()[0].shape
        logits = np.empty(columns, np.float32)
        outputs = {"logits": logits, **{f"new_{name}": array for name, array in new.items()}}
        binding = session.io_binding()
        for name, array in inputs.items():
            bind(binding.bind_input, name, array)
        for name, array in outputs.items():
            bind(binding.bind_output, name, array)
        with self._makers.explain_run():
            session.run_with_iobinding(binding)
        self._states[slot] = [new, past]
        self._lengths[slot] += len(tokens)
        row = logits.reshape(-1)[: self._config.vocabulary]
        self._makers.check_numbers(row)
        return row

    def _inputs(self, slot: int, tokens: Sequence[int], length: int) -> dict[str, NDArray[Any]]:
        """What a call needs beside the state; of all that there is, what the graph asks for."""
        past, count = np.array([self._lengths[slot]]), np.array([len(tokens)])
        wanted = count[:, None] - 1
        padded = np.zeros((1, length), np.int64)
        padded[0, : len(tokens)] = tokens
        cos, sin = self._rotary
        made: dict[str, NDArray[Any]] = {
            **{"tokens": padded, "past": past, "total": past + count, "wanted": wanted},
            **{"cos": cos, "sin": sin},
            **arithmetic.feeds(
                self._types,
                past,
                count,
                length,
                capacity(self.max_length),
                wanted,
                cos,
                sin,
                np.float16,
            ),
        }
        if self._embed is not None:
            embedded = np.zeros((1, length, self._config.hidden_size), np.float32)
            embedded[0, : len(tokens)] = self._embed(tokens)
            made[EMBEDDED] = embedded
        return {
            name: np.ascontiguousarray(array, self._types[name])
            for name, array in made.items()
            if name in self._types
        }
