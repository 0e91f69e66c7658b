"""Runs a compiled graph over a KV state that is updated in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.decoder.config import DecoderConfig

if TYPE_CHECKING:
    import onnxruntime

PREFILL_CHUNK = 512
"""Most tokens of a prompt that are computed together: bounds the activations' memory."""


class CpuRunner:
    """Implements `pipelines.common.runtime.runner.Runner`.

    Keys and values are float32 ``[slots, kv_heads, max_length, head_dim]``. They are bound both as
    input and as output, which tells GroupQueryAttention to append in place. Memory is touched, and
    so used, as sequences grow.

    Args:
        session: The compiled graph.
        config: The decoder's dimensions.
        inputs: Weights that are inputs of the graph, and the rotary tables, by name.
        slots: Sequences side by side.
        max_length: Tokens a slot can hold.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        config: DecoderConfig,
        inputs: Mapping[str, NDArray[Any]],
        slots: int,
        max_length: int,
    ) -> None:
        self._session = session
        self._config = config
        self._inputs = inputs
        shape = (slots, config.kv_heads, max_length, config.head_dim)
        self._state = {
            f"{half}.{layer}": np.zeros(shape, np.float32)
            for half in ("key", "value")
            for layer in range(config.layers)
        }
        self._lengths = np.zeros(slots, np.int32)
        self.slots = slots
        self.max_length = max_length
        self._step = _Call(self, slice(0, slots), sequence=1, wanted=1)

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
        """Writes `tokens` into `slot`, see `Runner.prefill`."""
        for first in range(0, len(tokens), PREFILL_CHUNK):
            chunk = tokens[first : first + PREFILL_CHUNK]
            call = _Call(self, slice(slot, slot + 1), sequence=len(chunk), wanted=1)
            call.wanted[:] = len(chunk) - 1
            logits = call.run(np.asarray([chunk]), np.asarray([start + first]))
        self._lengths[slot] = start + len(tokens)
        return logits[0, 0]

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Appends a token to every slot, see `Runner.decode`."""
        logits = self._step.run(np.asarray(tokens)[:, None], self._lengths)
        self._lengths += 1
        return logits[:, 0]

    def score(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits after every token, see `Runner.score`."""
        parts = []
        for first in range(0, len(tokens), PREFILL_CHUNK):
            chunk = tokens[first : first + PREFILL_CHUNK]
            call = _Call(self, slice(0, 1), sequence=len(chunk), wanted=len(chunk))
            call.wanted[:] = np.arange(len(chunk))
            parts.append(call.run(np.asarray([chunk]), np.asarray([first]))[0])
        self._lengths[0] = len(tokens)
        return np.concatenate(parts)


class _Call:
    """One shape of call with everything bound to fixed memory; it can be run again and again."""

    def __init__(self, runner: CpuRunner, rows: slice, *, sequence: int, wanted: int) -> None:
        batch = rows.stop - rows.start
        self._session = runner._session
        self.tokens = np.zeros((batch, sequence), np.int64)
        self.past = np.zeros(batch, np.int32)
        self.total = np.zeros(batch, np.int32)
        self.wanted = np.zeros((batch, wanted), np.int64)
        self.logits = np.empty((batch, wanted, runner._config.vocabulary), np.float32)
        self._binding = self._session.io_binding()
        graph_inputs = {value.name for value in self._session.get_inputs()}
        for name, array in {
            "tokens": self.tokens,
            "past": self.past,
            "total": self.total,
            "wanted": self.wanted,
            **runner._inputs,
        }.items():
            if name in graph_inputs:  # a rule may have made one superfluous, as GQA does `past`
                _bind(self._binding.bind_input, name, array)
        for name, array in runner._state.items():
            _bind(self._binding.bind_input, name, array[rows])
            _bind(self._binding.bind_output, f"new_{name}", array[rows])
        _bind(self._binding.bind_output, "logits", self.logits)

    def run(self, tokens: NDArray[Any], past: NDArray[Any]) -> NDArray[np.float32]:
        """Logits ``[batch, wanted, vocabulary]``, in memory of their own."""
        self.tokens[:] = tokens
        self.past[:] = past
        self.total[:] = past + tokens.shape[1]
        self._session.run_with_iobinding(self._binding)
        return self.logits.copy()


def _bind(bind: Any, name: str, array: NDArray[Any]) -> None:
    """Binds an array's own memory; the caller keeps it alive."""
    assert array.flags.c_contiguous
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
