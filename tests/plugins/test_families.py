"""The families that plugins bring, against transformers' own implementations of them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, Family
from gguf import GGUFReader
from notices import Notices
from numpy.typing import NDArray
from on_cpu_provider import on_coreml, on_cuda

from pipelines.common.errors import ModelFileError
from pipelines.common.export.write import export
from pipelines.common.models.model import Model
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Deployment
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions


@dataclass(frozen=True)
class Judged:
    """A file of a family, and what is expected of it.

    Attributes:
        family: The family.
        path: The file.
        tokens: A prompt.
        logits: What transformers makes of it, ``[tokens, vocabulary]``.
    """

    family: Family
    path: Path
    tokens: list[int]
    logits: NDArray[np.float32]

    def open(
        self,
        target: str = "cpu",
        encoding: str = "float32",
        *,
        native_ops: bool = False,
        path: Path | None = None,
        progress: Progress | None = None,
    ) -> Model:
        options = ModelOptions(
            model_path=path or self.path, encoding=encoding, target=target, native_ops=native_ops
        )
        pipeline = Registry.discover().load_pipeline(self.family.pipeline)
        return pipeline.open(options, Registry.discover(), progress or Progress())


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.pipeline)
def judged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    family = request.param
    model = family.make()
    path = family.write(tmp_path_factory.mktemp(family.pipeline) / "tiny.gguf", model)
    tokens = np.random.default_rng(0).integers(257, size=40).tolist()
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].numpy()
    return Judged(family, path, tokens, logits)


@pytest.mark.parametrize(
    ("target", "native_ops"), [("cpu", True), ("cpu", False), ("torch", False)]
)
def test_logits_are_those_of_transformers(judged: Judged, target: str, native_ops: bool) -> None:
    notices = Notices()
    model = judged.open(target, native_ops=native_ops, progress=notices)
    runner = model.start(slots=1, max_length=64)
    np.testing.assert_allclose(runner.score(judged.tokens), judged.logits, atol=1e-4, rtol=0)
    runner.prefill(0, judged.tokens[:-1])
    logits = runner.decode(judged.tokens[-1:])[0]
    np.testing.assert_allclose(logits, judged.logits[-1], atol=1e-4, rtol=0)
    assert not [message for message in notices.messages if "not known" in message]


@pytest.mark.parametrize(
    ("start", "tolerance"), [(on_coreml, 0.1), (on_cuda, 1e-4)], ids=["coreml", "cuda"]
)
def test_graphs_for_other_targets_on_the_cpu_provider(
    judged: Judged, start: Callable[[Deployment], Runner], tolerance: float
) -> None:
    """Lowered as on their machines; coreml computes in float16."""
    assert np.abs(np.diff(judged.logits, axis=0)).max(-1).min() > 5 * tolerance
    runner = start(judged.open().deployment(slots=1, max_length=64))
    logits = runner.prefill(0, judged.tokens[:-1])
    np.testing.assert_allclose(logits, judged.logits[-2], atol=tolerance, rtol=0)
    logits = runner.decode(judged.tokens[-1:])[0]
    np.testing.assert_allclose(logits, judged.logits[-1], atol=tolerance, rtol=0)


@pytest.mark.parametrize("encoding", ["q4_0", "q8_0"])
def test_matrices_in_blocks(judged: Judged, encoding: str) -> None:
    """What each runs in is the same for all, and its values are torch's."""
    expected = judged.open("torch", encoding).start(slots=1, max_length=64).score(judged.tokens)
    assert np.abs(expected - judged.logits).max() > 1e-3
    for native_ops in (True, False):
        model = judged.open("cpu", encoding, native_ops=native_ops)
        logits = model.start(slots=1, max_length=64).score(judged.tokens)
        errors = np.abs(logits - expected).max(-1) / np.abs(expected).max()
        # Activations are rounded to int8, and a close choice of experts may be another one then.
        assert (np.median(errors) if judged.family.chooses else errors.max()) < 0.1


def test_neighbours_change_nothing_with_the_native_kernels(judged: Judged) -> None:
    """Norms of heads and other small operators are ONNX Runtime's own, beside native products."""
    model = judged.open(native_ops=True)
    if not model.describe()["op_packages"]:
        pytest.skip("the native kernels are not built")
    runner = model.start(slots=3, max_length=64)
    full = runner.score(judged.tokens)
    for slot, length in enumerate((3, 11, 20)):
        logits = runner.prefill(slot, judged.tokens[:length])
        np.testing.assert_array_equal(logits, full[length - 1])
    for step in range(8):
        logits = runner.decode([judged.tokens[length + step] for length in (3, 11, 20)])
        for slot, length in enumerate((3, 11, 20)):
            np.testing.assert_array_equal(logits[slot], full[length + step])


def test_an_exported_folder_runs(judged: Judged, tmp_path: Path) -> None:
    model = judged.open()
    export(model, "cpu", tmp_path / "out", reference_weights=False)
    folder = judged.open(path=tmp_path / "out")
    assert folder.config == model.config
    logits = folder.start(slots=1, max_length=64).score(judged.tokens)
    np.testing.assert_allclose(logits, judged.logits, atol=1e-4, rtol=0)


def test_another_pipeline_names_the_one_for_the_file(judged: Judged) -> None:
    registry, family = Registry.discover(), judged.family
    other, runs = ("qwen3", "qwen3") if family.pipeline == "llama3" else ("llama3", "llama")
    with pytest.raises(
        ModelFileError,
        match=rf"'{family.architecture}'; pipeline {other} runs '{runs}';"
        rf" use pipeline {family.pipeline}$",
    ):
        registry.load_pipeline(other).open(
            ModelOptions(model_path=judged.path), registry, Progress()
        )


def test_every_tensor_is_needed(judged: Judged, tmp_path: Path) -> None:
    """No file without one of its tensors runs, and none with one more."""
    names = [tensor.name for tensor in GGUFReader(judged.path).tensors]
    data = judged.path.read_bytes()
    for name in names:
        encoded = struct.pack("<Q", len(name)) + name.encode()
        assert data.count(encoded) == 1
        (tmp_path / "m.gguf").write_bytes(data.replace(encoded, encoded[:-1] + b"X"))
        with pytest.raises(ModelFileError) as error:
            judged.open(path=tmp_path / "m.gguf")
        assert name[:-1] in str(error.value) or "missing" in str(error.value)
