"""The comparison's arithmetic, its engines' protocol, and one run of it all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import gguf
import pytest

from benchmarks.engine import Engine, EngineError, Setup, Worker
from benchmarks.models import Model
from benchmarks.random_gguf import Shape, write_random_gguf
from benchmarks.series import OWN, OWN_SINGLE, Comparison, Series

ROOT = Path(__file__).parents[2]


class RecordingRunner:
    """Keeps each slot's length, and what was asked of it."""

    def __init__(self, slots: int) -> None:
        self.lengths = [0] * slots
        self.prompts: list[tuple[int, int, int]] = []
        self.steps: list[list[int]] = []

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> None:
        assert start <= self.lengths[slot], "a gap"
        self.prompts.append((slot, len(tokens), start))
        self.lengths[slot] = start + len(tokens)

    def decode(self, tokens: Sequence[int]) -> None:
        assert len(tokens) == len(self.lengths)
        self.steps.append(list(self.lengths))
        self.lengths = [length + 1 for length in self.lengths]


def test_a_long_context_is_computed_once_and_then_cut() -> None:
    runner = RecordingRunner(slots=2)
    worker = Worker(runner, vocabulary=100, slots=2)
    for context in (50, 50, 20):
        worker.decode(context, 3)
    assert runner.prompts == [
        *((0, 50, 0), (1, 50, 0)),
        *((0, 1, 49), (1, 1, 49)),
        *((0, 1, 19), (1, 1, 19)),
    ]
    first_steps = [runner.steps[run * 3] for run in range(3)]
    assert first_steps == [[50, 50], [50, 50], [20, 20]]


def test_a_prompt_forgets_the_context() -> None:
    runner = RecordingRunner(slots=1)
    worker = Worker(runner, vocabulary=100, slots=1)
    worker.decode(30, 1)
    worker.prefill(5)
    worker.decode(20, 1)
    assert runner.prompts == [(0, 30, 0), (0, 5, 0), (0, 20, 0)]


def comparison(**series: Series) -> Comparison:
    return Comparison("batch", "decode", "8b", "q4_0", 128, 2, 4, 500.0, series)


def test_ratio_compares_neighbours_in_time() -> None:
    # The machine slows down to a tenth: the second engine is twice as slow throughout.
    one = comparison(
        fast=Series("", [100.0, 100.0, 10.0], []), slow=Series("", [50.0, 5.0, 5.0], [])
    )
    assert one.ratio("fast", "slow") == 2
    assert one.ratio("fast", "absent") is None


def test_share_is_of_the_bandwidth_around_each_run() -> None:
    # Two sequences share a step of 500 bytes: 40 tokens a second read 10,000 bytes.
    one = comparison(engine=Series("", [40.0, 20.0, 20.0], [12500.0, 6250.0, 5000.0]))
    assert one.share("engine") == pytest.approx(80)
    assert one.roofline() == pytest.approx(6250 / 500 * 2)
    assert one.share("absent") is None


@pytest.mark.parametrize("tied", [True, False])
def test_bytes_of_a_step_leave_out_an_embedding_of_its_own(
    tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape(256, 1, 4, 2, 64, 256, 768, tied=tied, rope_factor=8)
    monkeypatch.setattr("benchmarks.models.SHAPES", {"small": shape})
    write_random_gguf(tmp_path / "small.gguf", shape)
    model = Model.at(tmp_path, "small")
    tensors = {one.name: int(one.n_bytes) for one in gguf.GGUFReader(model.path).tensors}
    assert model.total_bytes == sum(tensors.values())
    unread = 0 if tied else tensors["token_embd.weight"]
    assert model.bytes_per_token == model.total_bytes - unread
    # One layer, keys and values, two heads of 64 elements in float16.
    assert model.kv_bytes(10) == 10 * 1 * 2 * 2 * 64 * 2


def test_model_files_are_written_once(tmp_path: Path) -> None:
    path = Model.at(tmp_path / "new", "tiny", "q8_0").path
    written = path.stat().st_mtime_ns
    assert Model.at(tmp_path / "new", "tiny", "q8_0").path.stat().st_mtime_ns == written
    assert sorted(path.parent.iterdir()) == [path]


def test_an_engine_that_ends_is_named() -> None:
    setup = Setup(Path("absent.gguf"), 1, 16, 1)
    with pytest.raises(EngineError, match="this one: its process ended with 1"):
        Engine("this one", sys.executable, "benchmarks.no_such_engine", setup)


def compare(
    folder: Path, *options: str, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.compare", "--shapes", "tiny", *options]
    environment = {**os.environ, **({"PATH": path} if path else {})}
    return subprocess.run(
        [*command, "--models-dir", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_llama_cpp_nothing_is_measured(tmp_path: Path) -> None:
    done = compare(tmp_path, "--llama-python", str(tmp_path / "no-python"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "no-python has no llama-cpp-python" in line


def test_figures_of_this_project_alone_and_without_a_compiler(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = compare(
        tmp_path,
        *("--no-llama", "--json", str(figures), "--only", "decode", "prefill", "batch", "memory"),
        *("--contexts", "8", "16", "--prompts", "24", "--sequences", "3"),
        *("--steps", "2", "--runs", "2"),
        path=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "no C++ compiler (c++)" in done.stderr
    assert "read bandwidth (NumPy), GB/s" in done.stdout
    written = json.loads(figures.read_text())
    assert written["bandwidth_by"] == "NumPy"
    tasks = [Comparison.from_json(one) for one in written["comparisons"]]
    assert [(one.section, one.length, one.sequences) for one in tasks] == [
        *(("decode", 16, 1), ("decode", 8, 1)),
        ("prefill", 24, 1),
        ("batch", 128, 3),
    ]
    for one in tasks:
        assert list(one.series) == [OWN_SINGLE] * (one.section == "batch") + [OWN]
        for series in one.series.values():
            assert all(rate > 0 for rate in series.rates)
            assert len(series.bandwidths) == (2 if one.task == "decode" else 0)
    assert [one.overhead is None for one in tasks] == [True, True, True, False]
    assert 0 < tasks[-1].overhead < 1
    (memory,) = written["memory"]
    assert memory["peak_bytes"] > memory["needed_bytes"] > 0
