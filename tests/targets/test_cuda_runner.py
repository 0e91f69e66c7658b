"""The cuda target's runner on the CPU provider, where all of it works but the device itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import DTypeLike, NDArray
from onnxruntime import OrtValue
from tiny_models import MIXED, VOCABULARY, llama, open_model, random_tokens, write_gguf

from pipelines.common.engine.engine import Engine
from pipelines.common.engine.request import Request
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.graph.rules import LoweredWeight
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.ort.session import CPU, make_session
from pipelines.common.program import slot_runner
from pipelines.common.program.runner import CandidateRunner, Runner
from pipelines.common.targets.cuda import candidates
from pipelines.common.targets.cuda.candidates import CandidateSearch
from pipelines.common.targets.cuda.memory import Copies, Memory, upload, write
from pipelines.common.targets.cuda.rules import rules
from pipelines.common.targets.cuda.runner import CudaRunner

HOST = Memory("cpu", 0)
MAX_LENGTH = 64
TOKENS = random_tokens(48)
OTHERS = random_tokens(48, seed=1)


def start(
    path: Path | None,
    activations: str,
    *,
    encoding: str = "auto",
    slots: int = 3,
    memory: Memory = HOST,
    wrap: Callable[[Any], Any] = lambda session: session,
    graph_capture: bool = False,
) -> CudaRunner:
    """A runner of a model lowered for CUDA, in the memory of the host."""
    deployment = open_model(path, encoding=encoding).deployment(slots=slots, max_length=MAX_LENGTH)
    own = rules(activations, packed=False)
    graph = deployment.program.lowered(deployment, "cuda", own, activations)
    tensors = upload(deployment.program.tensors(graph, LAYOUTS), memory)
    session = wrap(make_session(graph, {}, CPU))
    return CudaRunner(session, deployment, graph, tensors, memory, graph_capture=graph_capture)


@dataclass(frozen=True)
class Case:
    """A runner of three slots, and what the cpu target makes of the same file in float32.

    Attributes:
        activations: The type that it computes in.
    """

    runner: CudaRunner
    path: Path
    activations: str

    @property
    def tolerance(self) -> float:
        """How far apart two ways of computing a logit may be, in that type or in float32."""
        return 1e-4 if self.activations == "float32" else 0.02


@pytest.fixture(scope="module", params=["F32 float32", "F16 float16", "Q4_0 float16"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind, activations = request.param.split()
    path = write_gguf(
        tmp_path_factory.mktemp("cuda") / "model.gguf",
        llama(tied=kind == "F16"),
        Type[kind],
        exceptions=MIXED if kind == "Q4_0" else None,
    )
    return Case(start(path, activations), path, activations)


def assert_close(result: NDArray[Any], expected: NDArray[Any], case: Case) -> None:
    np.testing.assert_allclose(result, expected, atol=case.tolerance, rtol=0)


def test_logits_are_those_of_the_cpu_target(case: Case) -> None:
    reference = open_model(case.path, encoding="float32").start(slots=1, max_length=MAX_LENGTH)
    expected = reference.score(TOKENS)
    assert np.abs(np.diff(expected, axis=0)).max(-1).min() > 1
    assert_close(case.runner.score(TOKENS), expected, case)


def test_ragged_steps_equal_one_full_pass(case: Case) -> None:
    runner = case.runner
    sequences = {0: TOKENS[10:], 1: TOKENS, 2: OTHERS}
    lengths = {0: 1, 1: 17, 2: 40}
    full = {slot: runner.score(tokens) for slot, tokens in sequences.items()}
    for slot, tokens in sequences.items():
        logits = runner.prefill(slot, tokens[: lengths[slot]])
        assert_close(logits, full[slot][lengths[slot] - 1], case)
    for step in range(8):
        fed = [sequences[slot][lengths[slot] + step] for slot in range(3)]
        logits = runner.decode(fed)
        for slot in range(3):
            assert_close(logits[slot], full[slot][lengths[slot] + step], case)


def test_a_step_of_the_first_slots_leaves_the_others(case: Case) -> None:
    runner, full = case.runner, case.runner.score(TOKENS)
    for slot in range(3):
        runner.prefill(slot, TOKENS[: 20 + slot])
    for position in (20, 21):
        assert_close(runner.decode([TOKENS[position]])[0], full[position], case)
    logits = runner.decode([TOKENS[22], TOKENS[21], TOKENS[22]])
    for slot, position in enumerate((22, 21, 22)):
        assert_close(logits[slot], full[position], case)


def test_a_prompt_continues_a_slot_from_any_position(case: Case) -> None:
    runner, full = case.runner, case.runner.score(TOKENS)
    runner.prefill(2, TOKENS[:30] + OTHERS[:10])
    assert_close(runner.prefill(2, TOKENS[30:], 30), full[47], case)
    assert_close(runner.prefill(2, TOKENS[12:35], 12), full[34], case)
    assert_close(runner.decode([0, 0, TOKENS[35]])[2], full[35], case)


def test_a_slot_can_be_filled_to_the_brim(case: Case) -> None:
    runner, tokens = case.runner, random_tokens(MAX_LENGTH, seed=2)
    full = runner.score(tokens)
    for slot in range(3):
        assert_close(runner.prefill(slot, tokens[:-1]), full[-2], case)
    for logits in runner.decode([tokens[-1]] * 3):
        assert_close(logits, full[-1], case)


@pytest.mark.parametrize("length", [1, 16, 33])
def test_a_copied_slot_goes_its_own_way(case: Case, length: int) -> None:
    runner = case.runner
    full, other = runner.score(TOKENS), runner.score(TOKENS[:length] + OTHERS[length:])
    runner.prefill(0, TOKENS[:40])
    runner.prefill(1, OTHERS[:40])
    runner.copy(0, 2, length)
    assert_close(runner.prefill(2, OTHERS[length:40], length), other[39], case)
    untouched = runner.score(OTHERS[:41])[40]
    runner.prefill(0, TOKENS[:40])
    logits = runner.decode([TOKENS[40], OTHERS[40], OTHERS[40]])
    for slot, expected in enumerate((full[40], untouched, other[40])):
        assert_close(logits[slot], expected, case)


@pytest.mark.parametrize("chunk", [1, 7])
def test_long_prompts_go_in_chunks(case: Case, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, full = case.runner, case.runner.score(TOKENS)
    monkeypatch.setattr(slot_runner, "PREFILL_CHUNK", chunk)
    assert_close(runner.score(TOKENS), full, case)
    assert_close(runner.prefill(2, TOKENS), full[-1], case)
    assert_close(runner.prefill(2, TOKENS[20:], 20), full[-1], case)


class UsedMemory(Memory):
    """Has been used before: in every type of numbers, what stands in it is not one."""

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> OrtValue:
        value = super().allocate(shape, dtype)
        address, size = value.data_ptr(), value.tensor_size_in_bytes()
        ctypes.memset(address, 0xFF, size)
        return value


def test_what_stood_in_memory_does_not_matter(case: Case) -> None:
    """Not even where it is masked: a factor of 0 does not make a number of it."""
    used = start(case.path, case.activations, memory=UsedMemory("cpu", 0))
    for runner in (used, case.runner):
        for slot in range(3):
            runner.prefill(slot, TOKENS[: 3 * slot + 1])
    np.testing.assert_array_equal(used.decode([1, 2, 3]), case.runner.decode([1, 2, 3]))


def test_prompts_logits_are_not_overwritten_by_later_calls(case: Case) -> None:
    runner = case.runner
    results = [runner.score(TOKENS), runner.prefill(0, TOKENS)]
    before = [result.copy() for result in results]
    runner.score(OTHERS)
    runner.prefill(0, OTHERS)
    runner.advance([4])
    for result, copy in zip(results, before, strict=True):
        np.testing.assert_array_equal(result, copy)


def test_candidates_are_the_largest_logits(case: Case) -> None:
    runner = case.runner
    assert isinstance(runner, CandidateRunner)
    for slot in range(3):
        runner.prefill(slot, TOKENS[: 5 + slot])
    expected = runner.decode([7, 8])
    for slot in range(2):
        runner.prefill(slot, TOKENS[: 5 + slot])
    best = runner.advance([7, 8])
    np.testing.assert_array_equal(runner.last_logits(), expected)
    order = np.argsort(-expected, axis=-1, kind="stable")[:, : runner.candidates]
    np.testing.assert_array_equal(best.tokens, order)
    np.testing.assert_array_equal(best.logits, np.take_along_axis(expected, order, -1))


def test_tied_weights_are_on_the_device_once(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama(tied=True))
    deployment = open_model(path).deployment(slots=1, max_length=MAX_LENGTH)
    graph = deployment.program.lowered(
        deployment, "cuda", rules("float32", packed=False), "float32"
    )
    tensors = upload(deployment.program.tensors(graph, LAYOUTS), HOST)
    assert tensors.keys() == {weight.name for weight in graph.weights}
    embedding, head = (
        next(name for name in tensors if name.startswith(f"{layer}."))
        for layer in ("embedding", "head")
    )
    assert tensors[embedding].data_ptr() == tensors[head].data_ptr()
    assert len({value.data_ptr() for value in tensors.values()}) == len(tensors) - 1


def test_a_constant_has_the_shape_that_the_graph_declares() -> None:
    """Whatever the one of an input that shares its memory; inputs are bound with theirs."""
    codes = np.arange(64, dtype=np.uint8).reshape(2, 32)
    by_row = LoweredWeight("rows", "w", "codes_by_row", "uint8", (2, 32), constant=False)
    product = LoweredWeight("codes", "w", "codes", "uint8", (2, 2, 16), constant=True)
    for weights in ([by_row, product], [product, by_row]):
        tensors = upload(iter([(weights, codes)]), HOST)
        assert tensors["codes"].shape() == [2, 2, 16]
        assert tensors["rows"].data_ptr() == tensors["codes"].data_ptr()


def test_weights_are_uploaded_one_at_a_time() -> None:
    """The next one is made when the one before is on the device, and nobody holds it any more."""
    alive: list[Any] = []

    def made() -> Iterator[tuple[list[LoweredWeight], NDArray[Any]]]:
        for number in range(3):
            array = np.full((2, 3), number, np.float16)
            array.flags.writeable = False
            alive.append(number)
            shape = (3, 2)
            yield [LoweredWeight(f"w{number}", "w", "float16", "float16", shape, False)], array

    loading = made()
    tensors = upload(loading, HOST)
    assert [float(value.numpy()[0, 0]) for value in tensors.values()] == alive == [0, 1, 2]


def test_bfloat16_keeps_its_bits() -> None:
    array = np.array([[1.5, -2.25], [3e38, 1e-30]], ml_dtypes.bfloat16)
    value = HOST.holding(array)
    assert value.data_type() == "tensor(bfloat16)"
    bits = Copies(HOST).out(value.data_ptr(), (2, 2), np.uint16)
    np.testing.assert_array_equal(bits, array.view(np.uint16))


def test_an_array_of_another_size_is_not_written() -> None:
    """The runtime would read beyond its end."""
    with pytest.raises(AssertionError):
        write(HOST.allocate((4,), np.int64), np.zeros(4, np.int32))


def search(logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    value = HOST.holding(logits)
    found = CandidateSearch(HOST, value.data_ptr(), logits.shape[1], graph_capture=False)
    best = found.search(len(logits))
    return best.tokens, best.logits


def test_of_a_small_vocabulary_all_tokens_are_candidates() -> None:
    tokens, logits = search(np.array([[1, 3, 2], [2, 2, 7]], np.float32))
    assert tokens.tolist() == [[1, 2, 0], [2, 0, 1]]
    assert logits.tolist() == [[3, 2, 1], [7, 2, 2]]


@pytest.mark.parametrize("place", [0, 77, 999])
def test_what_is_not_a_number_comes_first(place: int) -> None:
    logits = np.random.default_rng(place).normal(size=(2, 1000)).astype(np.float32)
    logits[1, place] = np.nan
    tokens, best = search(logits)
    assert tokens.shape == best.shape == (2, candidates.MOST)
    assert np.isfinite(best[0]).all()
    assert tokens[1, 0] == place
    assert best[1, 0] == np.inf


class RecordedSession:
    """Counts what is bound, and notes which captured graph a run is."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.bound = 0
        self.runs: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def io_binding(self) -> Any:
        binding = self._session.io_binding()
        for name in ("bind_input", "bind_output"):
            setattr(binding, name, self._counting(getattr(binding, name)))
        return binding

    def _counting(self, bind: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            self.bound += 1
            bind(*arguments)

        return counted

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.runs.append(options.get_run_config_entry("gpu_graph_id"))
        self._session.run_with_iobinding(binding, options)


def recorded(case: Case, *, graph_capture: bool) -> tuple[CudaRunner, RecordedSession]:
    sessions: list[RecordedSession] = []

    def wrap(session: Any) -> Any:
        sessions.append(RecordedSession(session))
        return sessions[0]

    runner = start(case.path, case.activations, wrap=wrap, graph_capture=graph_capture)
    return runner, sessions[0]


def test_a_captured_step_has_its_addresses_for_good(case: Case) -> None:
    runner, session = recorded(case, graph_capture=True)
    for slot in range(3):
        runner.prefill(slot, TOKENS[:4])
    runner.score(TOKENS[:9])
    assert set(session.runs) == {"-1"}
    session.runs.clear()
    for fed in ([1, 2], [1, 2, 3]):
        runner.advance(fed)
    bound = session.bound
    for fed in ([5, 6], [7, 8, 9], [8, 9], [2, 2, 2]):
        runner.advance(fed)
    assert session.bound == bound
    assert session.runs == ["2", "3", "2", "3", "2", "3"]


def test_a_step_sends_only_tokens_and_lengths(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.activations == "float32":
        pytest.skip("attention in plain arithmetic takes places and a mask as well")
    runner = case.runner
    for slot in range(3):
        runner.prefill(slot, TOKENS[:4])
    runner.advance([1, 2, 3])
    sent: list[NDArray[Any]] = []
    monkeypatch.setattr(
        "pipelines.common.targets.cuda.runner.write", lambda _, array: sent.append(array)
    )
    runner.advance([4, 5, 6])
    assert [array.ravel().tolist() for array in sent] == [[4, 5, 6], [5, 5, 5]]


def test_nothing_is_captured_without_graph_capture(case: Case) -> None:
    runner, session = recorded(case, graph_capture=False)
    runner.prefill(0, TOKENS[:4])
    runner.advance([1])
    assert set(session.runs) == {"-1"}


def test_bundled_model_writes_in_float16_what_it_writes_in_float32() -> None:
    """Greedy, and drawn from the most likely tokens with the same random numbers."""
    model = open_model(None, encoding="float32")

    def written(runner: Runner) -> list[list[int]]:
        engine = Engine(runner, model.tokenizer)
        prompt = model.tokenizer.encode("Once upon a time")
        sequences = [
            engine.add(Request(prompt, MAX_LENGTH, params))
            for params in (SamplingParams(), SamplingParams(temperature=0.8, top_k=40, seed=1))
        ]
        while not engine.idle:
            engine.step()
        return [sequence.tokens for sequence in sequences]

    expected = written(model.start(slots=2, max_length=MAX_LENGTH))
    assert all(len(tokens) > 40 for tokens in expected)
    assert written(start(None, "float16", encoding="float32", slots=2)) == expected


def test_vocabulary_is_larger_than_the_candidates() -> None:
    """Or the tests above would not show that some are left out."""
    assert candidates.MOST < VOCABULARY
