"""Models that run with op packages, on every target."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from libraries import Messages
from numpy.typing import NDArray
from tiny_models import llama, open_model, random_tokens, write_gguf

from pipelines.common.errors import MemoryLimitError, OpPackageError, TargetError
from pipelines.common.importing import PREFIX
from pipelines.common.ort.op_errors import Makers
from pipelines.common.program import target as target_module
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.targets.cpu.runner import CpuRunner

SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"

TOKENS = random_tokens(20)

HEAD = """
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Rule
from pipelines.common.program.package import OpPackage
"""


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("model") / "model.gguf", llama())


def score(
    path: Path,
    custom_ops: Iterable[Path] = (),
    progress: Progress | None = None,
    target: str = "cpu",
    **options: object,
) -> NDArray[np.float32]:
    model = open_model(path, target=target, custom_ops=custom_ops, progress=progress, **options)
    return model.start(slots=1, max_length=20).score(TOKENS)


@pytest.fixture(scope="module")
def expected(model_file: Path) -> NDArray[np.float32]:
    return score(model_file, target="torch")


def package(path: Path, source: str) -> Path:
    path.write_text(HEAD + source)
    return path


SIGMOID = """
def emit(op, x):
    return op.Mul(x, op.Sigmoid(x))

PACKAGE = OpPackage("Example.", {"cpu": [Rule("Sigmoid", patterns.silu, emit)]})
"""


def test_a_replaced_operator(
    model_file: Path, tmp_path: Path, messages: Messages, expected: NDArray[np.float32]
) -> None:
    path = package(tmp_path / "replacing.py", SIGMOID)
    np.testing.assert_allclose(score(model_file, [path], messages), expected, atol=1e-4)
    told = "replacing: Sigmoid took 2 x SiLU"
    assert told in messages.details
    assert "cpu: FusedMatMul took 15 x Linear" in messages.details

    again = Messages()
    score(model_file, [path], again)
    assert again.from_cache == {"build", "lower"}
    assert told in again.details
    model = open_model(model_file, custom_ops=[path])
    model.start(slots=1, max_length=8)
    assert model.describe()["op_packages"] == ["replacing"]


def test_a_package_that_is_edited(
    model_file: Path, tmp_path: Path, expected: NDArray[np.float32]
) -> None:
    """As in a later process, in which its module is imported anew."""
    path = package(tmp_path / "edited.py", SIGMOID.replace("op.Mul(x, op.Sigmoid(x))", "x"))
    assert np.abs(score(model_file, [path]) - expected).max() > 0.1
    package(path, SIGMOID)
    for name in [name for name in sys.modules if name.startswith(PREFIX)]:
        del sys.modules[name]
    np.testing.assert_allclose(score(model_file, [path]), expected, atol=1e-4)


def test_a_package_whose_rules_fit_nothing(
    model_file: Path, tmp_path: Path, messages: Messages
) -> None:
    source = SIGMOID.replace("patterns.silu", "lambda op, x: op.SiLU(op.SiLU(x))")
    score(model_file, [package(tmp_path / "idle.py", source)], messages)
    assert any("'idle' changes nothing" in notice for notice in messages.notices)


HALF_STATE = """
from dataclasses import replace

import numpy as np
from pipelines.common.graph.patterns import AttentionInputs, Rotation
from pipelines.common.targets.cpu.rules import RULES

(stock,) = (rule for rule in RULES if rule.name == "GroupQueryAttention with rotation")

def emit(op, inputs: AttentionInputs, rotation: Rotation):
    halves = [op.keep_state_in(half, np.float16) for half in (inputs.past_key, inputs.past_value)]
    past_key, past_value = (op.Cast(half, to=1) for half in halves)
    inputs = replace(inputs, past_key=past_key, past_value=past_value)
    mixed, *new = stock.emit(op, inputs, rotation)
    return mixed, *(op.Cast(half, to=10) for half in new)

PACKAGE = OpPackage("KV in float16.", {"cpu": [Rule("half", patterns.rope_attention, emit)]})
"""


def test_a_state_in_another_type(
    model_file: Path,
    tmp_path: Path,
    expected: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = package(tmp_path / "half_state.py", HALF_STATE)
    model = open_model(model_file, custom_ops=[path])
    runner = model.start(slots=2, max_length=20)
    assert isinstance(runner, CpuRunner)
    kept = {(state.dtype, state.shape) for state in runner._state.values()}
    assert kept == {(np.dtype(np.float16), (2, 2, 32, 64))}  # room for a multiple of 16
    runner.prefill(1, TOKENS[:-1])
    runner.prefill(0, TOKENS[:3])
    logits = runner.decode([0, TOKENS[-1]])[1]
    np.testing.assert_allclose(logits, expected[-1], atol=0.02)
    assert np.abs(logits - expected[-1]).max() > 1e-5

    # At 2 layers * 2 halves * 2 heads * 64 * 2 bytes a token.
    monkeypatch.setattr(target_module, "available_memory", lambda: 1 << 30)
    with pytest.raises(MemoryLimitError, match=r"KV 2\.0 GiB"):
        model.start(slots=1, max_length=2 << 20)


def test_a_bare_library(
    model_file: Path, silu_library: Path, messages: Messages, expected: NDArray[np.float32]
) -> None:
    logits = score(model_file, [silu_library], messages)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert "two_kernels: SiLU took 2 x SiLU" in messages.details
    assert "two_kernels: Embedding took 1 x Embedding" in messages.details


def test_a_bare_library_takes_weights_in_any_encoding(model_file: Path, silu_library: Path) -> None:
    exact = score(model_file, encoding="q8_0", target="torch")
    logits = score(model_file, [silu_library], encoding="q8_0")
    assert np.abs(logits - exact).max() < 0.15 * exact.std()


def test_a_kernel_that_cannot_be_made(
    model_file: Path, silu_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SILU_CANNOT_BE_MADE", "1")
    with pytest.raises(TargetError) as error:
        score(model_file, [silu_library])
    assert str(error.value) == (
        "a kernel of op package 'two_kernels' cannot be made: SiLU: no room: none at all"
    )


@pytest.mark.parametrize("variable", ["SILU_FAILS", "SILU_FAILS_ON_THREADS"])
def test_a_kernel_that_fails(
    model_file: Path, silu_library: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(TargetError) as error:
        score(model_file, [silu_library])
    assert str(error.value) == ("operator SiLU of op package 'two_kernels' failed: a number is odd")


def test_failures_of_stock_operators_are_nobody_elses() -> None:
    message = (
        "Error in execution: Non-zero status code returned while running Gather node."
        " Name:'{}' Status Message: index out of bounds"
    )
    makers = Makers(packages=frozenset({"mine"}))
    for name in ("", "node_Gather_3", "another/rule"):
        assert makers.of_run(RuntimeError(message.format(name))) is None
    assert makers.of_run(RuntimeError(message.format("mine/rule_2")))


def test_an_operator_that_nobody_has(model_file: Path, tmp_path: Path) -> None:
    source = SIGMOID.replace("op.Sigmoid(x)", 'op.Ghost(x, _domain="haunted.house")')
    with pytest.raises(TargetError) as error:
        score(model_file, [package(tmp_path / "haunted.py", source)])
    message = str(error.value)
    for part in ("Ghost", "haunted.house", "rule 'Sigmoid'", "op package 'haunted'"):
        assert part in message
    assert "\n" not in message


def test_a_node_that_the_runtime_refuses(model_file: Path, tmp_path: Path) -> None:
    source = SIGMOID.replace("op.Sigmoid(x)", "op.Sigmoid(x, x)")
    with pytest.raises(TargetError, match=r"refuses what op package 'wrong' makes: .*input size 2"):
        score(model_file, [package(tmp_path / "wrong.py", source)])


NEW_OPERATOR = """
def declare():
    import torch
    from pipelines.common.ops import neutral_operator

    @neutral_operator("LeakyGate", lambda x, gate, slope: x)
    def leaky_gate(x, gate, slope):
        return x * torch.nn.functional.leaky_relu(gate, slope)

def look_for(op, x, gate, slope):
    return op.LeakyGate(x, gate, slope=slope)

def emit(op, x, gate, slope):
    return op.Mul(x, op.LeakyRelu(gate, alpha=slope.as_float()))

RULE = Rule("LeakyRelu", look_for, emit)
PACKAGE = OpPackage("Gates.", {"cpu": [RULE], "cuda": [RULE]}, operators=declare)
"""

PLUGIN = """
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl

@hookimpl
def register_pipelines():
    return [PipelineRecord("leaky", "Llama with another gate.", load=load)]

def load():
    from pipelines.common.models.pipeline import DecoderPipeline
    return DecoderPipeline("leaky", ("llama",), f"{__name__}:build")

def build(config: DecoderConfig):
    from pipelines.common.nn import SwiGLU
    from pipelines.common.ops import operator
    from pipelines.llama3 import model

    gate = operator("LeakyGate")

    class Leaky(SwiGLU):
        def forward(self, x):
            return self.down(gate(self.up(x), self.gate(x), 0.25))

    decoder = model.build(config)
    for block in decoder.layers:
        block.feed_forward = Leaky(config)
    return decoder
"""


def test_a_new_operator(model_file: Path, tmp_path: Path, expected: NDArray[np.float32]) -> None:
    """Without the package the model cannot be made; with it, the reference is the judge."""
    plugin = tmp_path / "leaky_plugin.py"
    plugin.write_text(PLUGIN)
    path = package(tmp_path / "leaky.py", NEW_OPERATOR)
    for target in ("torch", "cpu"):
        with pytest.raises(OpPackageError) as error:
            score(model_file, target=target, plugins=[plugin], pipeline="leaky")
        assert "operator 'LeakyGate'" in str(error.value)
        assert "`custom_ops`" in str(error.value)

    reference, lowered = (
        score(model_file, [path], target=target, plugins=[plugin], pipeline="leaky")
        for target in ("torch", "cpu")
    )
    np.testing.assert_allclose(lowered, reference, atol=1e-4)
    assert np.abs(reference - expected).max() > 0.1

    again = package(tmp_path / "again.py", NEW_OPERATOR)
    with pytest.raises(
        OpPackageError, match=r"'again': operators fails: .*LeakyGate is declared twice"
    ):
        score(model_file, [again], target="torch")


def test_a_new_operator_in_a_graph_that_was_kept(model_file: Path, tmp_path: Path) -> None:
    """One cache and a process each."""
    plugin = tmp_path / "leaky_plugin.py"
    plugin.write_text(PLUGIN)
    path = package(tmp_path / "leaky.py", NEW_OPERATOR)
    for target, encoding in (("cpu", "float32"), ("cuda", "q8_0")):
        command = [sys.executable, SCRIPT, "--plugin-path", plugin, "warm-cache", "leaky"]
        options = ["--model-path", model_file, "--custom-ops-path", path, "--target", target]
        options += ["--quantization-encoding", encoding, "--no-native-ops", "--quiet"]
        environment = {**os.environ, "RUN_PIPELINE_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            [*command, *options], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert f"leaky for {target}" in done.stdout


def test_native_kernels(model_file: Path, messages: Messages) -> None:
    if state := Registry.discover().op_packages["native"].state():
        pytest.skip(f"native kernels: {state}")
    exact = score(model_file, encoding="q8_0", target="torch")
    logits = score(model_file, progress=messages, encoding="q8_0", native_ops=True)
    assert any(detail.startswith("native: ") for detail in messages.details)
    assert np.abs(logits - exact).max() < 0.15 * exact.std()
