"""The example packages: right by `ops check`, light, and at work in a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ops_program import EXAMPLES, needs_compiler, program, silu_gate
from tiny_models import llama, logits, open_model, random_tokens, write_gguf

from pipelines.common.progress import Progress

ROPE = EXAMPLES / "rope_function.py"


class Details(Progress):
    """What a run says when it is verbose."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def detail(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def native(tmp_path: Path) -> Path:
    package = silu_gate(tmp_path)
    outcome = program("ops", "build", package)
    assert outcome.code == 0, outcome.err
    return package


def test_rope_function_is_right() -> None:
    outcome = program("ops", "check", ROPE)
    assert outcome.code == 0, outcome.out


@needs_compiler
def test_silu_gate_is_right(native: Path) -> None:
    outcome = program("ops", "check", native)
    assert outcome.code == 0, outcome.out


def test_silu_gate_before_it_is_built(tmp_path: Path) -> None:
    package = silu_gate(tmp_path)
    assert f"run-pipeline ops build {package}" in program("ops", "check", package).error


@needs_compiler
def test_both_in_a_model(tmp_path: Path, native: Path) -> None:
    """Logits are those of `transformers`, and each rule has taken what it is for."""
    model = llama()
    path = write_gguf(tmp_path / "model.gguf", model)
    tokens, details = random_tokens(9), Details()
    opened = open_model(path, custom_ops=[ROPE, native], progress=details)
    runner = opened.start(slots=1, max_length=16)
    assert "rope_function: Rotate took 4 x RoPE" in details.lines
    assert "silu_gate: SiLUGate took 2 x SiLU + Mul" in details.lines
    expected = logits(model, tokens)
    np.testing.assert_allclose(runner.prefill(0, tokens[:7]), expected[6], atol=1e-4)
    for position in (7, 8):
        step = runner.decode([tokens[position]])[0]
        np.testing.assert_allclose(step, expected[position], atol=1e-4)


@pytest.mark.parametrize(
    "module", [ROPE, EXAMPLES / "silu_gate" / "rules.py"], ids=["rope", "silu"]
)
def test_modules_are_light(module: str) -> None:
    """They are imported at every run that names them, when the graph is cached too."""
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);"
        "print(*{'torch', 'onnx', 'onnx_ir', 'onnxscript', 'onnxruntime'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLES / module)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
