"""Runs a compiled graph over weights and a KV state in a device's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipelines.common.graph.rules import LoweredGraph, element_type
from pipelines.common.ort import arithmetic
from pipelines.common.ort.packages import makers
from pipelines.common.ort.session import input_types
from pipelines.common.ort.state import capacity
from pipelines.common.program.runner import Candidates
from pipelines.common.program.slot_runner import SlotRunner
from pipelines.common.program.target import Deployment
from pipelines.common.targets.cuda.candidates import CandidateSearch
from pipelines.common.targets.cuda.memory import Copies, Memory, run, write

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue

_PLACES = {"tokens", "past", "total", "last", "wanted", "rows"}
"""Inputs that say what a call's tokens are and where they stand, see `CudaRunner._inputs`."""


class CudaRunner(SlotRunner):
    """Implements `pipelines.common.program.runner.CandidateRunner`.

    Weights, keys and values ``[slots, kv_heads, capacity, width]`` and logits stay on the
    device, at addresses that never change. A step sends tokens and lengths there, and has the most
    likely tokens back. Each number of sequences has a graph of its own where steps are captured.

    Args:
        session: The compiled graph.
        deployment: What it was compiled for.
        graph: The graph.
        tensors: Its weights that are no constants, by name.
        memory: The device's, where they are.
        graph_capture: Whether steps are captured as CUDA graphs, and the session made for it.
    """

    batch_invariant = False  # kernels sum in an order that depends on the batch

    def __init__(
        self,
        session: InferenceSession,
        deployment: Deployment,
        graph: LoweredGraph,
        tensors: Mapping[str, OrtValue],
        memory: Memory,
        *,
        graph_capture: bool,
    ) -> None:
        interface = deployment.interface
        super().__init__(deployment.slots, deployment.max_length, interface.vocabulary)
        self._session = session
        self._memory = memory
        self._graph_capture = graph_capture
        self._makers = makers(deployment, graph)
        self._shapes = {weight.name: weight.shape for weight in graph.weights}
        self._types = input_types(session)
        self._unread = _unread(graph)
        self._activations = element_type(graph.activations)

        self._capacity = capacity(deployment.max_length)
        self._tables = interface.tables(self._capacity)
        rotary = {
            name: memory.holding(table.astype(self._types[name]))
            for name, table in self._tables.items()
            if name in self._types
        }
        self._fixed = {**tensors, **rotary}
        self._state_shapes = interface.state_shapes(deployment.slots, self._capacity)
        self._state = {
            name: memory.allocate(shape, self._types[name])
            for name, shape in self._state_shapes.items()
        }
        self._arithmetic = self._types.keys() - self._fixed.keys() - self._state.keys() - _PLACES
        self._copies = Copies(memory)
        self._clear()

        self._prompt = _Call(self)
        self._steps: dict[int, _Call] = {}
        self._step_logits = memory.allocate((deployment.slots, 1, interface.vocabulary), np.float32)
        self._search = CandidateSearch(
            memory, self._step_logits.data_ptr(), interface.vocabulary, graph_capture=graph_capture
        )
        self._advanced = 0

    @property
    def candidates(self) -> int:
        """Tokens that `advance` tells of each sequence, see `CandidateRunner.candidates`."""
        return self._search.count

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Appends a token to each of the first slots, see `Runner.decode`."""
        self._step(tokens)
        return self.last_logits()

    def advance(self, tokens: Sequence[int]) -> Candidates:
        """Appends a token to each of the first slots, see `CandidateRunner.advance`."""
        self._step(tokens)
        best = self._search.search(len(tokens))
        self._makers.check_numbers(best.logits)
        return best

    def last_logits(self) -> NDArray[np.float32]:
        """All logits of the last step, see `CandidateRunner.last_logits`."""
        shape = (self._advanced, self._vocabulary)
        logits = self._copies.out(self._step_logits.data_ptr(), shape, np.float32)
        self._makers.check_numbers(logits)
        return logits

    def _compute(
        self, first: int, tokens: NDArray[np.int64], wanted: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `SlotRunner._compute`; steps go another way, see `_step`."""
        count = len(tokens)
        logits = self._memory.allocate((wanted.size, self._vocabulary), np.float32)
        self._prompt.bind_state(first, count)
        self._prompt.bind_logits(logits.data_ptr(), *wanted.shape)
        self._prompt.run(tokens, self._lengths[first : first + count].copy(), wanted)
        rows = logits.numpy()
        self._makers.check_numbers(rows)
        return rows.reshape(*wanted.shape, self._vocabulary)

    def _copy(self, source: int, target: int, length: int) -> None:  # noqa: ARG002
        """See `SlotRunner._copy`.

        All of the slot is copied: it is one run of bytes, its first tokens are one for each head.
        """
        for name in self._state:
            size = self._slot_bytes(name)
            self._copies.within(self._address(name, source), self._address(name, target), size)

    def _step(self, tokens: Sequence[int]) -> None:
        """Appends a token to each of the first slots; the logits stay on the device."""
        count = self._check_step(tokens)
        if count not in self._steps:
            step = _Call(self)
            step.bind_state(0, count)
            step.bind_logits(self._step_logits.data_ptr(), count, 1)
            self._steps[count] = step
        self._steps[count].run(
            np.array(tokens)[:, None],
            self._lengths[:count].copy(),
            np.zeros((count, 1), np.int64),
            count if self._graph_capture else None,
        )
        self._lengths[:count] += 1
        self._advanced = count

    def _inputs(
        self, tokens: NDArray[Any], past: NDArray[Any], wanted: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """What a call sends to the device: those of these inputs that the graph has.

        Args:
            tokens: ``[batch, sequence]``.
            past: Tokens in each slot before the call, ``[batch]``.
            wanted: Places in the sequence whose logits are wanted, ``[batch, wanted]``.
        """
        batch, sequence = tokens.shape
        total = past + sequence
        inputs = {
            "tokens": tokens,
            "past": past,
            "total": total,
            "last": total - 1,
            "wanted": wanted,
            "rows": wanted + sequence * np.arange(batch)[:, None],
        }
        if self._arithmetic:
            inputs |= arithmetic.feeds(
                self._arithmetic,
                past,
                np.full(batch, sequence),
                sequence,
                self._capacity,
                wanted,
                self._tables,
                self._activations,
            )
        return {
            name: array.astype(self._types[name], copy=False)
            for name, array in inputs.items()
            if name in self._types
        }

    def _clear(self) -> None:
        """Fills the state with zeros: a kernel that multiplies what it masks has to find numbers.

        Those of one slot cross to the device, once.
        """
        zeros = self._memory.holding(np.zeros(max(map(self._slot_bytes, self._state)), np.uint8))
        for name in self._state:
            for slot in range(self.slots):
                target = self._address(name, slot)
                self._copies.within(zeros.data_ptr(), target, self._slot_bytes(name))

    def _slot_bytes(self, name: str) -> int:
        """Bytes of one slot of a half of the state."""
        return int(self._state[name].tensor_size_in_bytes()) // self.slots

    def _address(self, name: str, slot: int) -> int:
        """Where a slot begins in a half of the state."""
        return int(self._state[name].data_ptr()) + slot * self._slot_bytes(name)


class _Call:
    """The graph's inputs and outputs, bound to memory of the device.

    It can be run again and again, and be bound to other slots and logits between runs. As long as
    the shapes stay the same, so do all addresses.

    Args:
        runner: Has the session, its weights and its state.
    """

    def __init__(self, runner: CudaRunner) -> None:
        self._runner = runner
        self._binding = runner._session.io_binding()
        self._slots: tuple[int, int] | None = None
        self._sent: dict[str, tuple[OrtValue, NDArray[Any]]] = {}
        for name, value in runner._fixed.items():
            shape = runner._shapes.get(name) or value.shape()  # tied weights may differ in theirs
            self._bind_input(name, value.data_ptr(), shape)

    def bind_state(self, first: int, count: int) -> None:
        """Has the call work on `count` slots."""
        if self._slots == (first, count):
            return
        self._slots = (first, count)
        for name in self._runner._state:
            address = self._runner._address(name, first)
            shape = (count, *self._runner._state_shapes[name][1:])
            self._bind_input(name, address, shape)
            self._bind_output(f"new_{name}", address, self._runner._types[name], shape)

    def bind_logits(self, address: int, batch: int, wanted: int) -> None:
        """Says where the logits go, ``[batch, wanted, vocabulary]`` float32."""
        shape = (batch, wanted, self._runner._vocabulary)
        self._bind_output("logits", address, np.float32, shape)

    def run(
        self,
        tokens: NDArray[Any],
        past: NDArray[Any],
        wanted: NDArray[Any],
        graph: int | None = None,
    ) -> None:
        """Computes the logits of `tokens` on top of `past` ones.

        Args:
            tokens: ``[batch, sequence]``.
            past: ``[batch]``.
            wanted: ``[batch, wanted]``.
            graph: See `pipelines.common.targets.cuda.memory.run`.

        Raises:
            PipelineError: See `Makers.explain_run`.
        """
        for name, array in self._runner._inputs(tokens, past, wanted).items():
            self._send(name, array)
        with self._runner._makers.explain_run():
            run(self._runner._session, self._binding, graph)

    def _send(self, name: str, array: NDArray[Any]) -> None:
        """Puts an input on the device, where it is not there already."""
        value, sent = self._sent.get(name, (None, None))
        if value is None or sent is None or sent.shape != array.shape:
            value = self._runner._memory.allocate(array.shape, array.dtype)
            self._bind_input(name, value.data_ptr(), array.shape)
        elif name in self._runner._unread or np.array_equal(sent, array):
            return
        write(value, array)
        self._sent[name] = value, array

    def _bind_input(self, name: str, address: int, shape: Sequence[int]) -> None:
        dtype = self._runner._types[name]
        self._runner._memory.bind(self._binding.bind_input, name, address, dtype, shape)

    def _bind_output(self, name: str, address: int, dtype: DTypeLike, shape: Sequence[int]) -> None:
        self._runner._memory.bind(self._binding.bind_output, name, address, dtype, shape)


def _unread(graph: LoweredGraph) -> set[str]:
    """Names of inputs that have to be there, but rules have left no node that looks at them."""
    import onnx

    lowered = onnx.load_from_string(graph.model).graph
    read = {name for node in lowered.node for name in node.input}
    return {value.name for value in lowered.input} - read
