"""Parameters that standard operators use: biases, and weights that are computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from every_target import every_target, float32_tolerance
from gguf import GGMLQuantizationType as Type
from tiny_models import llama, logits, open_model, random_tokens, write_gguf
from transformers import LlamaForCausalLM

from pipelines.common.errors import ModelFileError
from pipelines.common.export.write import export
from pipelines.common.models.model import Model
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Deployment
from pipelines.testing import Check, Subject, on_coreml, on_cuda, pipeline_checks

Files: TypeAlias = Callable[[Type], Path]

TOKENS = random_tokens(40)
PLUGIN = Path(__file__).parent / "shifted"


@pytest.fixture(scope="module")
def judge() -> LlamaForCausalLM:
    return llama(biases=True)


@pytest.fixture(scope="module", params=["llama", "shifted"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files of the judge's weights: a Llama with biases, or one whose norms are stored less one."""
    folder = tmp_path_factory.mktemp(request.param)
    model = llama(biases=True)
    if request.param == "shifted":
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.data -= 1

    def write(kind: Type) -> Path:
        path = folder / f"{request.param}-{kind.name}.gguf"
        return path if path.exists() else write_gguf(path, model, kind, architecture=request.param)

    return write


def opened(path: Path, **options: Any) -> Model:
    pipeline = "shifted" if path.name.startswith("shifted") else "llama3"
    return open_model(path, pipeline=pipeline, plugins=[PLUGIN], **options)


@pytest.mark.parametrize(("target", "native_ops"), [*every_target(False), ("cpu", True)])
def test_float32(files: Files, judge: LlamaForCausalLM, target: str, native_ops: bool) -> None:
    model = opened(files(Type.F32), target=target, native_ops=native_ops)
    runner = model.start(slots=1, max_length=64)
    expected, tolerance = logits(judge, TOKENS), float32_tolerance(target)
    np.testing.assert_allclose(runner.score(TOKENS), expected, atol=tolerance)
    runner.prefill(0, TOKENS[:-1])
    np.testing.assert_allclose(runner.decode(TOKENS[-1:])[0], expected[-1], atol=tolerance)


@pytest.mark.parametrize("native_ops", [False, True])
def test_matrices_in_blocks(files: Files, native_ops: bool) -> None:
    """Biases stay in float32; products round activations to int8, as the torch target does not."""
    path = files(Type.Q4_0)
    exact = opened(path, target="torch", encoding="auto").start(slots=1, max_length=64)
    model = opened(path, encoding="auto", native_ops=native_ops)
    result = model.start(slots=1, max_length=64).score(TOKENS)
    np.testing.assert_allclose(result, exact.score(TOKENS), atol=0.25)


@pytest.mark.parametrize(
    ("start", "tolerance"), [(on_coreml, 0.05), (on_cuda, 1e-4)], ids=["coreml", "cuda"]
)
def test_graphs_for_other_targets_on_the_cpu_provider(
    files: Files, judge: LlamaForCausalLM, start: Callable[[Deployment], Runner], tolerance: float
) -> None:
    """Lowered as on their machines; coreml computes in float16."""
    runner = start(opened(files(Type.F32)).deployment(slots=1, max_length=64))
    logits_of_prompt = runner.prefill(0, TOKENS)
    np.testing.assert_allclose(logits_of_prompt, logits(judge, TOKENS)[-1], atol=tolerance)


@pytest.mark.parametrize("kind", [Type.F32, Type.Q4_0])
def test_an_exported_folder_runs(files: Files, tmp_path: Path, kind: Type) -> None:
    model = opened(files(kind), encoding="auto")
    export(model, "cpu", tmp_path / "out", reference_weights=False)
    expected = model.start(slots=1, max_length=64).score(TOKENS)
    pipeline = model.pipeline
    folder = open_model(tmp_path / "out", pipeline=pipeline, plugins=[PLUGIN], encoding="auto")
    np.testing.assert_array_equal(folder.start(slots=1, max_length=64).score(TOKENS), expected)


def test_a_file_whose_biases_the_network_has_not(tmp_path: Path) -> None:
    """The weight table and the network have to agree, or biases would be lost."""
    (tmp_path / "plugin").mkdir()
    for file in PLUGIN.glob("*.py"):
        text = file.read_text().replace("Block(config)", "Block(plain(config))")
        text = text.replace(
            "def build(",
            "def plain(config):\n"
            "    import dataclasses\n"
            "    return dataclasses.replace(config, biases=())\n\n\n"
            "def build(",
        )
        (tmp_path / "plugin" / file.name).write_text(text)
    path = write_gguf(tmp_path / "m.gguf", llama(biases=True), architecture="shifted")
    for target in ("cpu", "torch"):
        with pytest.raises(ModelFileError, match=r"unexpected tensors: 'blk\.0\.attn_q\.bias'"):
            open_model(path, target=target, pipeline="shifted", plugins=[tmp_path / "plugin"])


FEW_ENCODINGS = ("f16", "q8_0", "q4_1", "q4_k")
"""Floats, and blocks with a scale, with an offset, and with parts that have scales of their own."""

SHIFTED = [
    check
    for check in pipeline_checks(Subject.of("shifted", PLUGIN, config={"tied": True}))
    if not check.name.startswith("stored in ") or check.name.endswith(FEW_ENCODINGS)
]


@pytest.mark.parametrize("check", SHIFTED, ids=str)
def test_without_biases(check: Check) -> None:
    """Then fusions begin with a norm, whose weight is computed."""
    check()
