"""Runs a graph of fixed shapes, of which there is a session for each length of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.nn.interface import Interface
from pipelines.common.ort import arithmetic
from pipelines.common.ort.op_errors import NOBODY, Makers
from pipelines.common.ort.session import bind, input_types
from pipelines.common.program.slot_runner import SlotRunner
from pipelines.common.targets.coreml.weights import Tables

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


class CoreMLRunner(SlotRunner):
    """Implements `pipelines.common.program.runner.Runner`.

    Sequences are computed one after the other. The KV state goes into a call and comes out of it,
    so each slot has two sets of keys and values, ``[1, kv_heads, capacity, width]``, that take
    turns.

    Args:
        session: Makes the session of a length; it is asked for when a call of that length comes.
        interface: The network's.
        embedding: What embeds tokens.
        tables: The rotary tables by name, each ``[capacity, dims / 2]``.
        slots: Sequences side by side.
        max_length: Tokens a slot can hold.
        makers: Who has made the graph.
    """

    batch_invariant = False  # a call's length decides how the provider computes it

    def __init__(
        self,
        session: Callable[[int], InferenceSession],
        interface: Interface,
        embedding: Tables,
        tables: Mapping[str, NDArray[np.float32]],
        *,
        slots: int,
        max_length: int,
        makers: Makers = NOBODY,
    ) -> None:
        super().__init__(slots, max_length, interface.vocabulary)
        self._session = session
        self._sessions: dict[int, InferenceSession] = {}
        self._embedding = embedding
        self._tables = tables
        self._makers = makers
        self._types = input_types(self._session_of(1))
        shapes = interface.state_shapes(1, capacity(max_length))
        self._states = [
            [{name: np.zeros(shapes[name], self._types[name]) for name in shapes} for _ in range(2)]
            for _ in range(slots)
        ]
        self._held = [0] * slots

    def _compute(
        self, first: int, tokens: NDArray[np.int64], wanted: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `SlotRunner._compute`; a call gives the logits after its last token and no others."""
        logits = np.empty((*wanted.shape, self._vocabulary), np.float32)
        for place, (row, places) in enumerate(zip(tokens, wanted, strict=True)):
            slot, done = first + place, 0
            self._forget(slot, int(self._lengths[slot]))
            for number, end in enumerate((*places + 1, len(row))):
                while done < end:
                    length = call_length(end - done)
                    part = row[done : min(done + length, end)]
                    last = self._run(slot, part, length)
                    done += len(part)
                if number < len(places):
                    logits[place, number] = last
        return logits

    def _copy(self, source: int, target: int, length: int) -> None:
        """See `SlotRunner._copy`."""
        self._forget(target, length)
        for name, array in self._states[target][0].items():
            array[:, :, :length] = self._states[source][0][name][:, :, :length]

    def _forget(self, slot: int, length: int) -> None:
        """Leaves a slot its first tokens."""
        if self._held[slot] == length > 0:
            return
        for array in self._states[slot][0].values():
            # What is not finite would spoil the sums that it has no part in.
            array[:, :, length:] = 0
        self._held[slot] = length

    def _session_of(self, length: int) -> InferenceSession:
        if length not in self._sessions:
            self._sessions[length] = self._session(length)
        return self._sessions[length]

    def _run(self, slot: int, tokens: NDArray[np.int64], length: int) -> NDArray[np.float32]:
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
        self._held[slot] += len(tokens)
        row = logits.reshape(-1)[: self._vocabulary]
        self._makers.check_numbers(row)
        return row

    def _inputs(self, slot: int, tokens: NDArray[np.int64], length: int) -> dict[str, NDArray[Any]]:
        """What a call needs beside the state; of all that there is, what the graph asks for."""
        past, count = np.array([self._held[slot]]), np.array([len(tokens)])
        wanted = count[:, None] - 1
        padded = np.zeros((1, length), np.int64)
        padded[0, : len(tokens)] = tokens
        made: dict[str, NDArray[Any]] = {
            **{"tokens": padded, "past": past, "total": past + count, "wanted": wanted},
            **self._tables,
            **arithmetic.feeds(
                self._types,
                past,
                count,
                length,
                capacity(self.max_length),
                wanted,
                self._tables,
                np.float16,
            ),
        }
        made |= self._embedding.rows(self._types, made)
        return {
            name: np.ascontiguousarray(array, self._types[name])
            for name, array in made.items()
            if name in self._types
        }
