"""Runs a compiled graph over a KV state that is updated in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.nn.interface import Interface
from pipelines.common.ort.op_errors import NOBODY, Makers
from pipelines.common.ort.session import bind, input_types
from pipelines.common.ort.state import capacity
from pipelines.common.program.slot_runner import SlotRunner

if TYPE_CHECKING:
    import onnxruntime


class CpuRunner(SlotRunner):
    """Implements `pipelines.common.program.runner.Runner`.

    Keys and values are ``[slots, kv_heads, capacity, width]``, of the element types that the
    graph declares. They are bound both as input and as output, which tells GroupQueryAttention to
    append in place. Memory is touched, and so used, as sequences grow.

    Args:
        session: The compiled graph.
        interface: The network's.
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
        interface: Interface,
        inputs: Mapping[str, NDArray[Any]],
        *,
        slots: int,
        max_length: int,
        lent: Sequence[NDArray[Any]] = (),
        makers: Makers = NOBODY,
        batch_invariant: bool = False,
    ) -> None:
        super().__init__(slots, max_length, interface.vocabulary)
        self._session = session
        self._inputs = inputs
        self._lent = lent
        self._makers = makers
        types = input_types(session)
        self._graph_inputs = types.keys()
        self._state = {
            name: np.zeros(shape, types[name])
            for name, shape in interface.state_shapes(slots, capacity(max_length)).items()
        }
        self.batch_invariant = batch_invariant
        self._steps: dict[int, _Call] = {}
        self._step_logits = np.empty((slots, 1, interface.vocabulary), np.float32)

    def _compute(
        self, first: int, tokens: NDArray[np.int64], wanted: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `SlotRunner._compute`; steps of the first slots keep their bindings."""
        count, sequence = tokens.shape
        if first == 0 and sequence == 1:
            if count not in self._steps:
                logits = self._step_logits[:count]
                self._steps[count] = _Call(self, slice(0, count), sequence=1, logits=logits)
            call = self._steps[count]
        else:
            logits = np.empty((*wanted.shape, self._vocabulary), np.float32)
            call = _Call(self, slice(first, first + count), sequence=sequence, logits=logits)
        call.run(tokens, self._lengths[first : first + count], wanted)
        self._makers.check_numbers(call.logits)
        return call.logits

    def _copy(self, source: int, target: int, length: int) -> None:
        """See `SlotRunner._copy`."""
        whole = capacity(length)  # kernels may keep the tokens of a group in any order
        for array in self._state.values():
            array[target, :, :whole] = array[source, :, :whole]


class _Call:
    """One shape of call with everything bound to fixed memory; it can be run again and again.

    Args:
        runner: Has the session, its inputs and its state.
        rows: The slots, of which there are `batch`.
        sequence: Tokens of each.
        logits: Where they go, ``[batch, wanted, vocabulary]``.

    Attributes:
        logits: See above.
    """

    def __init__(
        self, runner: CpuRunner, rows: slice, *, sequence: int, logits: NDArray[np.float32]
    ) -> None:
        batch, wanted, _ = logits.shape
        self.logits = logits
        self._session = runner._session
        self._makers = runner._makers
        self._tokens = np.zeros((batch, sequence), np.int64)
        self._past = np.zeros(batch, np.int32)
        self._total = np.zeros(batch, np.int32)
        self._wanted = np.zeros((batch, wanted), np.int64)
        self._binding = self._session.io_binding()
        inputs: dict[str, NDArray[Any]] = {
            "tokens": self._tokens,
            "past": self._past,
            "total": self._total,
            "wanted": self._wanted,
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

    def run(
        self, tokens: NDArray[np.int64], past: NDArray[np.int32], wanted: NDArray[np.int64]
    ) -> None:
        """Computes the logits of `tokens` on top of `past` ones, at the places `wanted`.

        Raises:
            PipelineError: See `Makers.explain_run`.
        """
        self._tokens[:] = tokens
        self._past[:] = past
        self._total[:] = past + tokens.shape[1]
        self._wanted[:] = wanted
        with self._makers.explain_run():
            self._session.run_with_iobinding(self._binding)
