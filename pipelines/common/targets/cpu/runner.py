"""Runs a compiled graph over a KV state that is updated in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.ort.op_errors import NOBODY, Makers
from pipelines.common.ort.session import bind, input_types
from pipelines.common.ort.state import capacity
from pipelines.common.program.runner import PREFILL_CHUNK, check_copy, check_prompt, check_step

if TYPE_CHECKING:
    import onnxruntime


class CpuRunner:
    """Implements `pipelines.common.program.runner.Runner`.

    Keys and values are ``[slots, kv_heads, capacity, head_dim]``, of the element types that the
    graph declares. They are bound both as input and as output, which tells GroupQueryAttention to
    append in place. Memory is touched, and so used, as sequences grow.

    Args:
        session: The compiled graph.
        config: The decoder's dimensions.
        inputs: Weights that are inputs of the graph, and the rotary tables, by name.
        slots: Sequences side by side.
        max_length: Tokens a slot can hold.
        lent: Arrays that the session reads and does not own.
        makers: Who has made the graph.
        batch_invariant: See `Runner.batch_invariant`.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        config: DecoderConfig,
        inputs: Mapping[str, NDArray[Any]],
        *,
        slots: int,
        max_length: int,
        lent: Sequence[NDArray[Any]] = (),
        makers: Makers = NOBODY,
        batch_invariant: bool = False,
    ) -> None:
        self._session = session
        self._config = config
        self._inputs = inputs
        self._lent = lent
        self._makers = makers
        shape = (slots, config.kv_heads, capacity(max_length), config.head_dim)
        types = input_types(session)
        self._graph_inputs = types.keys()
        layers = range(config.layers)
        self._state = {
            name: np.zeros(shape, types[name])
            for name in (f"{half}.{layer}" for half in ("key", "value") for layer in layers)
        }
        self._lengths = np.zeros(slots, np.int32)
        self.slots = slots
        self.max_length = max_length
        self.batch_invariant = batch_invariant
        self._steps: dict[int, _Call] = {}
        self._step_logits = np.empty((slots, 1, config.vocabulary), np.float32)

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
        """Writes `tokens` into `slot`, see `Runner.prefill`."""
        check_prompt(self, self._config.vocabulary, slot, tokens, start)
        for first in range(0, len(tokens), PREFILL_CHUNK):
            chunk = tokens[first : first + PREFILL_CHUNK]
            logits = np.empty((1, 1, self._config.vocabulary), np.float32)
            call = _Call(self, slice(slot, slot + 1), sequence=len(chunk), logits=logits)
            call.wanted[:] = len(chunk) - 1
            call.run(np.asarray([chunk]), np.asarray([start + first]))
        self._lengths[slot] = start + len(tokens)
        self._makers.check_numbers(logits[0, 0])
        return logits[0, 0]

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Appends a token to each of the first slots, see `Runner.decode`."""
        check_step(self, self._config.vocabulary, tokens, self._lengths)
        count = len(tokens)
        if count not in self._steps:
            logits = self._step_logits[:count]
            self._steps[count] = _Call(self, slice(0, count), sequence=1, logits=logits)
        self._steps[count].run(np.asarray(tokens)[:, None], self._lengths[:count])
        self._lengths[:count] += 1
        self._makers.check_numbers(self._step_logits[:count, 0])
        return self._step_logits[:count, 0]

    def copy(self, source: int, target: int, length: int) -> None:
        """Makes the first tokens of one slot those of another, see `Runner.copy`."""
        check_copy(self, source, target, length, self._lengths)
        whole = capacity(length)  # kernels may keep the tokens of a group in any order
        for array in self._state.values():
            array[target, :, :whole] = array[source, :, :whole]
        self._lengths[target] = length

    def score(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits after every token, see `Runner.score`."""
        check_prompt(self, self._config.vocabulary, 0, tokens)
        parts = []
        for first in range(0, len(tokens), PREFILL_CHUNK):
            chunk = tokens[first : first + PREFILL_CHUNK]
            logits = np.empty((1, len(chunk), self._config.vocabulary), np.float32)
            call = _Call(self, slice(0, 1), sequence=len(chunk), logits=logits)
            call.wanted[:] = np.arange(len(chunk))
            call.run(np.asarray([chunk]), np.asarray([first]))
            parts.append(logits[0])
        self._lengths[0] = len(tokens)
        return np.concatenate(parts)


class _Call:
    """One shape of call with everything bound to fixed memory; it can be run again and again.

    Args:
        runner: Has the session, its inputs and its state.
        rows: The slots, of which there are `batch`.
        sequence: Tokens of each.
        logits: Where they go, ``[batch, wanted, vocabulary]``; the caller keeps it alive.
    """

    def __init__(
        self, runner: CpuRunner, rows: slice, *, sequence: int, logits: NDArray[np.float32]
    ) -> None:
        batch, wanted, _ = logits.shape
        self._session = runner._session
        self._makers = runner._makers
        self.tokens = np.zeros((batch, sequence), np.int64)
        self.past = np.zeros(batch, np.int32)
        self.total = np.zeros(batch, np.int32)
        self.wanted = np.zeros((batch, wanted), np.int64)
        self._binding = self._session.io_binding()
        inputs: dict[str, NDArray[Any]] = {
            "tokens": self.tokens,
            "past": self.past,
            "total": self.total,
            "wanted": self.wanted,
            **runner._inputs,
        }
        for name, array in inputs.items():
            if (
                name in runner._graph_inputs
            ):  # a rule may have made one superfluous, as GQA does `past`
                bind(self._binding.bind_input, name, array)
        for name, array in runner._state.items():
            bind(self._binding.bind_input, name, array[rows])
            bind(self._binding.bind_output, f"new_{name}", array[rows])
        bind(self._binding.bind_output, "logits", logits)

    def run(self, tokens: NDArray[Any], past: NDArray[Any]) -> None:
        """Computes the logits of `tokens` on top of `past` ones.

        Raises:
            PipelineError: See `Makers.explain_run`.
        """
        self.tokens[:] = tokens
        self.past[:] = past
        self.total[:] = past + tokens.shape[1]
        with self._makers.explain_run():
            self._session.run_with_iobinding(self._binding)
