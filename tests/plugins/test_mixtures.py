"""What only mixtures of experts have, on a tiny one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from families import FAMILIES

from pipelines.common.errors import ModelFileError
from pipelines.common.export.write import export
from pipelines.common.models.model import Model
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions
from pipelines.common.view import anatomy

(FAMILY,) = (family for family in FAMILIES if family.pipeline == "qwen3moe")
TOKENS = np.random.default_rng(1).integers(257, size=40).tolist()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILY.subject.write(tmp_path_factory.mktemp("mixture") / "tiny.gguf")


def opened(path: Path, encoding: str, *, native_ops: bool = False) -> Model:
    registry = Registry.discover()
    options = ModelOptions(model_path=path, encoding=encoding, target="cpu", native_ops=native_ops)
    return registry.load_pipeline(FAMILY.pipeline).open(options, registry, Progress())


@pytest.mark.parametrize("encoding", ["q4_0", "q8_0", "float32"])
def test_neighbours_change_nothing(path: Path, encoding: str) -> None:
    """Each token has experts of its own, which read other tokens' too."""
    model = opened(path, encoding, native_ops=True)
    if not model.describe()["op_packages"]:
        pytest.skip("the native kernels are not built")
    runner = model.start(slots=3, max_length=64)
    assert runner.batch_invariant
    full = runner.score(TOKENS)
    lengths = (1, 17, 30)
    for slot, length in enumerate(lengths):
        np.testing.assert_array_equal(runner.prefill(slot, TOKENS[:length]), full[length - 1])
    for step in range(8):
        logits = runner.decode([TOKENS[length + step] for length in lengths])
        np.testing.assert_array_equal(logits, full[[length + step for length in lengths]])


@pytest.mark.parametrize("reference_weights", [False, True])
@pytest.mark.parametrize("encoding", ["q4_0", "float32"])
def test_a_folder_has_each_experts_matrices(
    path: Path, tmp_path: Path, encoding: str, *, reference_weights: bool
) -> None:
    model, folder = opened(path, encoding), tmp_path / "out"
    export(model, "cpu", folder, reference_weights=reference_weights)
    expected = model.start(slots=1, max_length=64).score(TOKENS)
    logits = opened(folder, encoding).start(slots=1, max_length=64).score(TOKENS)
    np.testing.assert_array_equal(logits, expected)

    document = json.loads((folder / "manifest.json").read_text())
    weight = next(weight for weight in document["weights"] if weight["rows"])
    weight["rows"] = [weight["rows"][0] + 1000, weight["rows"][1] + 1000]
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ModelFileError, match=r"rows 1\d+ to 1\d+, which config's \[6, "):
        opened(folder, encoding)


def test_only_experts_that_are_used_are_read(path: Path) -> None:
    model = opened(path, "q8_0", native_ops=True)
    deployment = model.deployment(slots=1, max_length=64)
    graph = anatomy.of_lowered(model.target.lower(deployment), model.config.layers, 64)
    costs = [node.cost.weights for node in graph.nodes if node.operator.endswith("Experts")]
    if not costs:
        pytest.skip("the native kernels are not built")
    down = 64 * 64  # of its 32 columns a tile has 64
    assert costs == [2 * (2 * 32 * 64 + down) * 34 // 32] * 2
