"""Phi-4-mini: a part of each head is rotated, and by other factors where sequences grow long."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from numpy.typing import NDArray

from pipelines.common.checkpoints.checkpoint import TensorInfo
from pipelines.common.checkpoints.gguf.write import write_gguf
from pipelines.common.encodings import F32
from pipelines.common.errors import ModelFileError
from pipelines.testing import RandomWeights, Subject, check_twin, pipeline_checks, twin_numbers

ORIGINAL = 32
SHORT, LONG = [1.0, 1.1, 1.2, 1.3], [1.0, 1.5, 3.0, 8.0]
FACTORS = {"rope_factors_short.weight": SHORT, "rope_factors_long.weight": LONG}
METADATA = {
    "phi3.rope.dimension_count": 8,
    "phi3.rope.scaling.original_context_length": ORIGINAL,
    "phi3.rope.scaling.attn_factor": math.sqrt(1 + math.log(4) / math.log(ORIGINAL)),
}


class WithFactors:
    """A checkpoint that has tensors of factors besides."""

    def __init__(self, checkpoint: Any, factors: dict[str, list[float]]) -> None:
        self._checkpoint = checkpoint
        self._factors = {name: np.float32(values) for name, values in factors.items()}
        more = {n: TensorInfo(n, v.shape, F32, 0, v.nbytes) for n, v in self._factors.items()}
        self.tensors = {**checkpoint.tensors, **more}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checkpoint, name)

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        if name in self._factors:
            return self._factors[name].view(np.uint8)[None]
        return self._checkpoint.raw(name, rows)


def phi4(path: Path, factors: dict[str, list[float]] = FACTORS) -> Subject:
    subject = Subject("phi3", random=RandomWeights(3, {"tied": True}, METADATA))
    return replace(subject, path=write_gguf(WithFactors(subject.checkpoint, factors), path))


@pytest.mark.parametrize(("room", "factors"), [(ORIGINAL, SHORT), (128, LONG)])
def test_logits_are_those_of_transformers(
    tmp_path: Path, room: int, factors: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = phi4(tmp_path / "m.gguf")
    # transformers chooses by the tokens that it is given, and the pipeline by what has room.
    monkeypatch.setattr(Subject, "room", room)
    numbers = {
        **twin_numbers(subject),
        "original_max_position_embeddings": ORIGINAL,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": subject.open().config.rope.base,
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": ORIGINAL,
            "short_factor": SHORT,
            "long_factor": LONG,
        },
    }
    assert subject.open().config.rope.frequencies(room)[-1] == pytest.approx(
        10000 ** -(6 / 8) / factors[-1]
    )
    check_twin(
        subject, transformers.Phi3ForCausalLM(transformers.Phi3Config(**numbers)), allowed=1e-5
    )


def test_every_target_has_it(tmp_path: Path) -> None:
    subject = phi4(tmp_path / "m.gguf")
    results = [check.result() for check in pipeline_checks(subject)]
    assert [each for each in results if each.outcome == "failed"] == []


def test_factors_of_another_number_are_refused(tmp_path: Path) -> None:
    wrong = {"rope_factors_long.weight": [1.0] * 5}
    with pytest.raises(ModelFileError, match=r"'rope_factors_long.weight' is f32 \[5\]; expected"):
        phi4(tmp_path / "m.gguf", wrong).open()
