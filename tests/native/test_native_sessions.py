"""Sessions with the native kernels: several, many, and with bad input."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from tiny_models import MIXED, VOCABULARY, llama, open_model, random_tokens, write_gguf

from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.errors import PipelineError
from pipelines.common.program.runner import Runner


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(
        tmp_path_factory.mktemp("sessions") / "model.gguf", llama(), Type.Q4_0, exceptions=MIXED
    )


def start(path: Path, slots: int = 1) -> Runner:
    return open_model(path, encoding="auto", native_ops=True).start(slots=slots, max_length=32)


def test_two_sessions_side_by_side(path: Path) -> None:
    tokens = random_tokens(20)
    first = start(path)
    expected = first.prefill(0, tokens)
    second = start(path, slots=2)
    second.prefill(1, random_tokens(9, seed=3))
    step = first.decode([7])
    np.testing.assert_array_equal(second.prefill(0, tokens), expected)
    np.testing.assert_array_equal(second.decode([7, 7])[0], step[0])


def test_sessions_leave_nothing_behind(path: Path) -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux's /proc")
    tokens = random_tokens(20)
    for _ in range(10):
        start(path).prefill(0, tokens)
    before = resident()
    for _ in range(40):
        start(path).prefill(0, tokens)
    # A session of this model takes two megabytes and more; forty would be seen.
    assert resident() - before < 20e6


@pytest.mark.parametrize("token", [VOCABULARY, -1, 2**40])
def test_token_out_of_range(path: Path, token: int) -> None:
    runner = start(path)
    with pytest.raises(PipelineError, match=f"there is no token {token}; the vocabulary has 320"):
        runner.prefill(0, [1, token, 2])
    assert np.isfinite(runner.prefill(0, [1, 2])).all()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_scale_that_is_no_number_stays_where_it_is(tmp_path: Path, path: Path, bad: float) -> None:
    """In the output matrix it makes one logit meaningless, and no other."""
    data = bytearray(path.read_bytes())
    info = open_gguf(path).tensors["output.weight"]
    row_bytes = info.nbytes // info.rows
    place = info.offset + 5 * row_bytes + 208  # the scale of the first block of row 5
    data[place : place + 2] = np.float16(bad).tobytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(data)
    expected, result = (start(each).prefill(0, [1, 2, 3]) for each in (path, broken))
    assert not np.isfinite(result[5])
    np.testing.assert_array_equal(np.delete(result, 5), np.delete(expected, 5))
