"""The most likely tokens of a step, found where its logits are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.common.program.runner import Candidates
from pipelines.common.targets.cuda.memory import Memory, run

if TYPE_CHECKING:
    from onnx import GraphProto
    from onnxruntime import IOBinding, OrtValue

MOST = 64
"""Tokens of which a step tells the logits; the usual values of ``top_k`` are below it."""


class CandidateSearch:
    """Finds the largest logits of each row and their tokens; only these leave the device.

    Args:
        memory: The device's.
        logits: Address of the logits of a step, ``[rows, vocabulary]`` float32.
        vocabulary: Tokens that there are.
        graph_capture: Whether a search is captured, one graph for each number of rows.

    Attributes:
        count: Candidates of each row.
    """

    def __init__(
        self, memory: Memory, logits: int, vocabulary: int, *, graph_capture: bool
    ) -> None:
        self.count = min(MOST, vocabulary)
        self._memory = memory
        self._logits = logits
        self._vocabulary = vocabulary
        self._graph_capture = graph_capture
        self._session = memory.session(
            _searching(vocabulary, self.count), graph_capture=graph_capture
        )
        self._searches: dict[int, tuple[IOBinding, OrtValue, OrtValue]] = {}

    def search(self, rows: int) -> Candidates:
        """The candidates of the first rows."""
        if rows not in self._searches:
            self._searches[rows] = self._bound(rows)
        binding, values, tokens = self._searches[rows]
        run(self._session, binding, rows if self._graph_capture else None)
        return Candidates(tokens.numpy(), values.numpy())

    def _bound(self, rows: int) -> tuple[IOBinding, OrtValue, OrtValue]:
        binding = self._session.io_binding()
        shape = (rows, self._vocabulary)
        self._memory.bind(binding.bind_input, "logits", self._logits, np.float32, shape)
        shape = (rows, self.count)
        values = self._memory.allocate(shape, np.float32)
        tokens = self._memory.allocate(shape, np.int64)
        for name, value, kind in (("values", values, np.float32), ("tokens", tokens, np.int64)):
            self._memory.bind(binding.bind_output, name, value.data_ptr(), kind, shape)
        return binding, values, tokens


def _searching(vocabulary: int, count: int) -> GraphProto:
    """From logits to the largest ones, in descending order.

    What is not a number counts as infinite, so that it is among them and is noticed: where it would
    come in the order is not defined.
    """
    from onnx import TensorProto, helper, numpy_helper

    float32, int64 = TensorProto.FLOAT, TensorProto.INT64
    nodes = [
        helper.make_node("Equal", ["logits", "logits"], ["is_number"]),
        helper.make_node("Where", ["is_number", "logits", "infinity"], ["comparable"]),
        helper.make_node("TopK", ["comparable", "count"], ["values", "tokens"], axis=-1),
    ]
    return helper.make_graph(
        nodes,
        "candidates",
        [helper.make_tensor_value_info("logits", float32, ["rows", vocabulary])],
        [
            helper.make_tensor_value_info("values", float32, ["rows", count]),
            helper.make_tensor_value_info("tokens", int64, ["rows", count]),
        ],
        [
            numpy_helper.from_array(np.array([count]), "count"),
            numpy_helper.from_array(np.array(np.inf, np.float32), "infinity"),
        ],
    )
