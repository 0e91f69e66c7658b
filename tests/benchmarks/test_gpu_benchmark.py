"""The GPU benchmark: every part on the CPU, and what becomes of parts that fail or have no time."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from benchmarks.gpu import _findings, dry_settings, plan, run
from benchmarks.gpu_parts.model import Steps, open_model
from benchmarks.gpu_parts.parity import difference
from benchmarks.gpu_parts.part import Part, Recorder, Settings
from benchmarks.gpu_parts.perform import perform
from benchmarks.gpu_parts.profile import Kernel, record_kernels, summed
from benchmarks.gpu_parts.speed import prompt_flops
from benchmarks.gpu_parts.tables import print_tables
from pipelines.common.program.runner import Candidates

Found = list[dict[str, Any]]


def found(written: io.StringIO) -> Found:
    return [json.loads(line) for line in written.getvalue().splitlines()]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return dry_settings(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def findings(settings: Settings) -> Found:
    """Those of all parts of a dry run but the command's, in this process."""
    written = io.StringIO()
    for group in plan("cpu", ["tiny"]):
        for part in group:
            if part.kind != "command":
                perform(part, settings, Recorder(written))
    return found(written)


def of(findings: Found, kind: str) -> Found:
    return [finding for finding in findings if finding["kind"] == kind]


def test_every_part_finds_what_it_is_for(findings: Found, settings: Settings) -> None:
    assert of(findings, "error") == []
    models = ("q4_0", "f16")
    tasks = [(1, 8), (1, 24), (2, 8), (3, 8)]
    decoded = of(findings, "decode")
    assert [each["encoding"] for each in decoded] == [name for name in models for _ in tasks]
    for each, (batch, context) in zip(decoded, 2 * tasks, strict=True):
        # Four steps warm up, four are timed.
        assert (each["batch"], each["context"]) == (batch, context + 6)
        assert len(each["rates"]) == settings.windows
        assert min(each["rates"]) > 0
    assert [each["tokens"] for each in of(findings, "prefill")] == 2 * [8, 24]
    assert [each["batch"] for each in of(findings, "scheduler")] == 2 * [1, 3]
    assert len(of(findings, "load")) == len(of(findings, "kernels")) == 2
    assert len(of(findings, "bandwidth")) == len(of(findings, "matmul")) == 2
    (operators,) = of(findings, "operators")
    assert "GroupQueryAttention" in {each["operator"] for each in operators["operators"]}
    products = {(each["use"], each["format"], each["batch"]) for each in of(findings, "product")}
    assert len(products) == (4 * 3 + 2) * 3


def test_parity_is_exact_where_products_are(findings: Found) -> None:
    for each in of(findings, "parity"):
        exact = each["encoding"] == "f16"
        assert each["largest"] < (1e-4 if exact else 0.5)
        assert each["agreement"] == 1 or not exact
    tasks = ["prompt", "steps of one", "steps of 3"]
    assert [each["task"] for each in of(findings, "parity")] == 2 * tasks


def test_a_step_reads_all_weights_and_the_rows_that_it_needs(
    findings: Found, settings: Settings
) -> None:
    (load,) = (each for each in of(findings, "load") if each["encoding"] == "f16")
    tensors = {one.name: one for one in gguf.GGUFReader(settings.folder / "tiny-f16.gguf").tensors}
    del tensors["rope_freqs.weight"]
    # float32 on the CPU; of the embedding, which is tied, the table is read as a row too.
    elements = sum(int(one.n_elements) for one in tensors.values())
    row = 256 * 2
    assert load["weight_bytes_per_step"] == 4 * elements + row
    (step,) = (
        each for each in of(findings, "decode") if each["encoding"] == "f16" and each["batch"] == 3
    )
    state = 2 * 2 * 2 * 64 * 4  # halves, layers, heads, elements, bytes
    assert load["state_bytes_per_token"] == state
    assert step["bytes_per_step"] == load["weight_bytes_per_step"] + 3 * step["context"] * state


def test_flops_of_one_token_are_two_an_element(findings: Found, settings: Settings) -> None:
    assert findings  # the file is there
    config = open_model(Part("speed", "tiny", "f16"), settings).config
    tensors = gguf.GGUFReader(settings.folder / "tiny-f16.gguf").tensors
    matrices = sum(math.prod(map(int, one.shape)) for one in tensors if len(one.shape) == 2)
    attention = 2 * 4 * 4 * 64  # layers, a score and a share of a value, heads, elements
    assert prompt_flops(config, 1) == 2 * matrices + attention
    # Every token sees one key more than the one before it.
    each = [prompt_flops(config, tokens) for tokens in (1, 2, 3)]
    assert each[2] - 2 * each[1] + each[0] == attention


def test_tables_show_a_whole_run(findings: Found, capsys: pytest.CaptureFixture[str]) -> None:
    part = {"name": "all", "status": "done", "seconds": 1.0, "errors": [], "findings": findings}
    print_tables({"parts": [part]})
    printed = capsys.readouterr().out
    for title in ("rates", "decode steps", "prompts", "loading", "products by themselves"):
        assert f"\n{title}\n" in printed
    assert "| all | done | 1 |  |" in printed


def test_a_failing_part_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    groups = [
        [Part("model", "absent", "q4_0"), Part("machine", variant="too slow", limit_s=0.01)],
        [Part("machine", variant="no time", needed_s=1000)],
        [Part("machine", variant="in the end", needed_s=0)],
    ]
    report = run(groups, dry_settings(tmp_path), 100, figures)
    assert json.loads(figures.read_text())["parts"] == report["parts"]
    absent, slow, skipped, last = report["parts"]
    assert absent["status"] == "failed"
    assert absent["errors"] == ["model, absent, q4_0: KeyError: 'absent'"]
    assert "Traceback" in absent["findings"][0]["traceback"]
    assert slow["status"] == "failed"
    (error,) = slow["errors"]
    assert error.startswith("ended after ")
    assert (skipped["status"], skipped["findings"]) == ("skipped", [])
    assert (last["status"], last["errors"]) == ("done", [])
    assert of(last["findings"], "bandwidth")[0]["copy_bytes_per_s"] > 0


def test_no_part_begins_after_the_budget(tmp_path: Path) -> None:
    begin = time.monotonic()
    report = run(plan("cuda", ["1b", "8b"]), dry_settings(tmp_path), 0, None)
    assert time.monotonic() - begin < 1
    assert {part["status"] for part in report["parts"]} == {"skipped"}


def test_figures_are_written_while_parts_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    monkeypatch.setattr(
        "benchmarks.gpu._write", lambda _, report: written.append(len(report["parts"]))
    )
    run([[Part("machine")], [Part("machine")]], dry_settings(tmp_path), 0, tmp_path / "figures")
    assert written == [1, 2]


def test_a_torn_finding_is_left_out() -> None:
    assert _findings('{"kind": "whole"}\n{"kind": "to') == [{"kind": "whole"}]
    assert _findings('{"kind": "to') == []


def test_what_matters_most_comes_first() -> None:
    groups = plan("cuda", ["1b", "8b"])
    first, models, *others, last = groups
    assert [part.kind for part in (*first, *last)] == ["machine", "machine"]
    assert {(part.shape, part.encoding) for part in models} == {
        (shape, encoding) for shape in ("1b", "8b") for encoding in ("q4_0", "f16")
    }
    assert [part.name for (part,) in others[:4]] == [
        "speed, 8b, q4_0, graph capture",
        "speed, 8b, q4_0, graph capture, packed",
        "speed, 8b, f16, graph capture",
        "parity, 1b, f16, graph capture",
    ]
    names = [part.name for group in groups for part in group]
    assert len(set(names)) == len(names)


def test_kernels_are_summed_by_name_and_grid() -> None:
    def event(name: str, start: float, duration: float, **more: Any) -> dict[str, Any]:
        return {"cat": "kernel", "name": name, "ts": start, "dur": duration, **more}

    events = [
        {"name": "trace", "ph": "M"},
        {"cat": "cuda_runtime", "name": "cudaGraphLaunch", "ts": 0.0, "dur": 900.0},
        event("gemv", 100.0, 5.0, args={"grid": [64, 1, 1]}),
        event("gemv", 110.0, 7.0, args={"grid": [64, 1, 1]}),
        event("gemv", 120.0, 20.0, args={"grid": [512, 1, 1]}),
        {"cat": "gpu_memcpy", "name": "Memcpy DtoH", "ts": 150.0, "dur": 2.0, "args": {}},
    ]
    kernels, span = summed(events, steps=2)
    assert kernels == [
        Kernel("gemv", (512, 1, 1), 0.5, 10.0),
        Kernel("gemv", (64, 1, 1), 1.0, 6.0),
        Kernel("Memcpy DtoH", (), 0.5, 1.0),
    ]
    assert span == 26


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_profile_without_kernels_is_an_error_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    with pytest.raises(RuntimeError, match="no kernel"):
        record_kernels(lambda: None, 1, Recorder(io.StringIO()), on_gpu=True)


class CandidateTeller:
    """Says that the token after n is n + 1; keeps what it was asked."""

    slots, max_length, batch_invariant, candidates = 2, 100, False, 2

    def __init__(self) -> None:
        self.prompts: list[int] = []
        self.fed: list[list[int]] = []

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> Any:
        assert (slot, start) == (len(self.prompts), 0)
        self.prompts.append(len(tokens))

    def advance(self, tokens: Sequence[int]) -> Candidates:
        self.fed.append(list(tokens))
        best = np.array(tokens)[:, None] + [[1, 5]]
        return Candidates(best, np.zeros(best.shape, np.float32))

    def decode(self, *_: Any) -> Any:
        raise AssertionError("all logits are asked for")

    copy = score = last_logits = forward = decode


def test_steps_feed_what_was_found(findings: Found, settings: Settings) -> None:
    assert findings  # the file is there
    runner = CandidateTeller()
    steps = Steps(open_model(Part("speed", "tiny", "f16"), settings), runner, batch=2, context=9)
    for _ in range(3):
        steps.run()
    assert runner.prompts == [9, 9]
    assert steps.context == 12
    first, *others = runner.fed
    assert others == [[token + 1 for token in first], [token + 2 for token in first]]


def test_difference_tells_ties_from_mistakes() -> None:
    expected = np.array([[0.0, 1.0, 3.0], [2.0, 1.9, 0.0]], np.float32)
    found = np.array([[0.0, 1.0, 2.5], [1.9, 2.0, 0.0]], np.float32)
    result = difference(expected, found)
    assert result["largest"] == pytest.approx(0.5)
    assert result["mean"] == pytest.approx(0.7 / 6, abs=1e-6)
    assert result["agreement"] == 0.5
    assert result["preference"] == pytest.approx(0.1, abs=1e-6)
