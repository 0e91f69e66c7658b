"""Every instruction set that this machine has gives the same results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from tiny_models import MIXED, llama, write_gguf

SCORE = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
from tiny_models import open_model, random_tokens
model = open_model(__import__("pathlib").Path({path!r}), encoding="auto", native_ops=True)
np.save({out!r}, model.start(slots=1, max_length=40).score(random_tokens(40)))
"""


def score(path: Path, isa: str, out: Path) -> np.ndarray | str:
    """Logits, or the last line of what went wrong."""
    program = SCORE.format(path=str(path), out=str(out), tests=str(Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PIPELINE_NATIVE_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    return np.load(out) if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("kind", ["mixed", "F32"])
def test_instruction_sets_agree(tmp_path: Path, kind: str) -> None:
    mixed = kind == "mixed"
    path = write_gguf(
        tmp_path / "model.gguf",
        llama(),
        Type.Q4_0 if mixed else Type[kind],
        exceptions=MIXED if mixed else None,
    )
    portable = score(path, "portable", tmp_path / "portable.npy")
    assert isinstance(portable, np.ndarray), portable
    same = []
    for isa in ("avx512-vnni", "avx-vnni", "avx2", "neon-i8mm", "neon-dotprod"):
        result = score(path, isa, tmp_path / f"{isa}.npy")
        if isinstance(result, str):
            assert "PIPELINE_NATIVE_ISA" in result
            continue
        # Without fused multiplication and addition a rounding to int8 may go the other way.
        assert np.median(np.abs(result - portable).max(-1)) < (0.02 if mixed else 1e-4)
        same.append(result)
    for result in same[1:]:
        np.testing.assert_array_equal(result, same[0])


def test_unknown_instruction_set_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "run_pipeline.py", "llama3", "--prompt", "x", "--max-new-tokens", "1"],
        env={**os.environ, "PIPELINE_NATIVE_ISA": "altivec"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "altivec" in last
    assert "portable" in last
    assert "Traceback" not in done.stderr


def test_flag_leaves_the_kernels_out() -> None:
    def packages(*options: str) -> object:
        done = subprocess.run(
            [sys.executable, "run_pipeline.py", "llama3", "--prompt", "x", "--json", *options],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)["op_packages"]

    assert packages("--max-new-tokens", "1") == ["native"]
    assert packages("--max-new-tokens", "1", "--no-native-ops") == []
