from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models

from pipelines.common.cli import warm_cache
from pipelines.common.errors import OfflineError
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions

pytestmark = pytest.mark.usefixtures("own_cache")

LEAN = Path(__file__).with_name("lean_program.py")

RUN = ["llama3", "--prompt", "Once upon a time", "--max-new-tokens", "16", "--target", "cpu"]


def run_lean(*args):
    command = [sys.executable, LEAN, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_offline_needs_what_warm_cache_stores_and_nothing_else(cli, process, tmp_path):
    before = cli(*RUN, "--offline", "--quiet")
    assert before.code == 1
    assert before.error.startswith("the vocabulary of ")
    assert before.error.endswith(
        "--offline makes nothing; store it first: run-pipeline warm-cache llama3 --target cpu"
        " --quantization-encoding q4_0"
    )
    assert not (tmp_path / "cache" / "tokenizer").exists()

    # What other tests have loaded in this process would count among what the graph is made from.
    warmed = process("warm-cache", "llama3", "--target", "cpu", "--json", "--quiet")
    assert warmed.code == 0, warmed.err
    record = json.loads(warmed.out)
    assert (record["target"], record["cache"]) == ("cpu", str(tmp_path / "cache"))
    assert {entry["kind"] for entry in record["entries"]} == {"graph", "weights", "tokenizer"}
    assert all(entry["stored"] and entry["size_bytes"] > 0 for entry in record["entries"])

    lean = run_lean(*RUN, "--offline")
    assert lean.returncode == 0, lean.stderr
    assert lean.stdout == cli(*RUN).out

    again = cli("warm-cache", "llama3", "--target", "cpu", "--quiet").out.splitlines()
    assert len(again) == 3
    assert all(" was there " in line for line in again)

    other = cli(*RUN, "--offline", "--quiet", "--quantization-encoding", "q8_0")
    assert other.error.startswith("the graph of llama3 for cpu is not in the cache ")
    assert other.error.endswith(" --quantization-encoding q8_0")


def test_what_a_target_stores_beside_the_graph_is_stored_too(cli):
    """The target need not be here."""
    warmed = cli("warm-cache", "llama3", "--target", "coreml", "--json", "--quiet")
    assert warmed.code == 0, warmed.err
    entries = json.loads(warmed.out)["entries"]
    assert [e["kind"] for e in entries if " for coreml" in e["description"]] == [
        "weights",
        "graph",
    ]


def test_a_cache_that_keeps_nothing_is_an_error(cli, monkeypatch):
    def make(_registry, _pipeline, options, _progress):
        if options.offline:
            raise OfflineError("it is gone")

    monkeypatch.setattr(warm_cache, "_make", make)
    monkeypatch.setenv("RUN_PIPELINE_CACHE_LIMIT", "1K")
    outcome = cli("warm-cache", "llama3", "--target", "cpu", "--quiet")
    assert outcome.code == 1
    assert outcome.error.endswith(
        "does not keep what was made; make room there, or raise RUN_PIPELINE_CACHE_LIMIT above"
        " 1.0 KiB"
    )


def test_weights_are_not_converted_offline(tmp_path):
    file = tiny_models.write_gguf(tmp_path / "tiny.gguf", tiny_models.llama())
    tiny_models.open_model(file)  # stores the vocabulary
    registry = Registry.discover()
    options = ModelOptions(model_path=file, encoding="q4_0", offline=True)
    model = registry.load_pipeline("llama3").open(options, registry, Progress())
    program = model.deployment(slots=1, max_length=2).program
    with pytest.raises(
        OfflineError, match=r"what tiny\.gguf runs in \(quantization encoding q4_0: "
    ):
        program.weights.convert()


def test_there_has_to_be_something_to_make(cli):
    outcome = cli("warm-cache", "echo", "--target", "cpu")
    assert outcome.code == 2
    assert outcome.error == "pipeline echo runs without a graph; there is nothing to store"
    outcome = cli("warm-cache", "llama3", "--target", "torch", "--quiet")
    assert outcome.code == 1
    assert outcome.error.startswith("target torch runs the network itself and has no graph")
