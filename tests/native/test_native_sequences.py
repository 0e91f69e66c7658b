"""With the native kernels a sequence's logits are the same to the last bit, whatever runs beside it
and however it is cut up.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from tiny_models import MIXED, llama, open_model, random_tokens, write_gguf

from pipelines.common.program import slot_runner
from pipelines.common.program.runner import Runner

LENGTH = 48
SLOTS = 5
SEQUENCES = [random_tokens(LENGTH, seed) for seed in range(SLOTS)]


FILES: dict[str, tuple[Type, Mapping[str, Type]]] = {
    **{
        kind.name: (kind, {})
        for kind in (Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q5_0, Type.Q4_1)
    },
    "mixed": (Type.Q4_0, MIXED),
    "mixed with BF16": (
        Type.Q4_0,
        {
            "token_embd.weight": Type.BF16,
            "output.weight": Type.BF16,
            "blk.0.attn_k.weight": Type.BF16,
            "blk.0.ffn_up.weight": Type.BF16,
            "blk.1.ffn_down.weight": Type.BF16,
        },
    ),
}
"""What matrices are stored in, and those that are stored in something else."""


@pytest.fixture(scope="module", params=FILES)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    kind, exceptions = FILES[request.param]
    path = tmp_path_factory.mktemp("sequences") / "model.gguf"
    write_gguf(path, llama(), kind, exceptions=exceptions)
    model = open_model(path, encoding="auto", native_ops=True)
    return model.start(slots=SLOTS, max_length=64)


def alone(runner: Runner, tokens: list[int], length: int, steps: int) -> list[NDArray[np.float32]]:
    """Logits after the prompt and after each further token, the other slots idle."""
    for slot in range(1, SLOTS):
        runner.prefill(slot, [0])
    logits = [runner.prefill(0, tokens[:length])]
    for position in range(length, length + steps):
        logits.append(runner.decode([tokens[position], *[0] * (SLOTS - 1)])[0].copy())
    return logits


def test_neighbours_change_nothing(runner: Runner) -> None:
    assert runner.batch_invariant
    lengths, steps = [1, 9, 17, 30, 40], 8
    expected = [
        alone(runner, tokens, length, steps)
        for tokens, length in zip(SEQUENCES, lengths, strict=True)
    ]
    for slot, (tokens, length) in enumerate(zip(SEQUENCES, lengths, strict=True)):
        np.testing.assert_array_equal(runner.prefill(slot, tokens[:length]), expected[slot][0])
    for step in range(steps):
        logits = runner.decode(
            [tokens[length + step] for tokens, length in zip(SEQUENCES, lengths, strict=True)]
        )
        for slot in range(SLOTS):
            np.testing.assert_array_equal(logits[slot], expected[slot][step + 1])


def test_decoding_is_prefilling_token_by_token(runner: Runner) -> None:
    tokens = SEQUENCES[0]
    full = runner.score(tokens)
    for length, logits in enumerate(alone(runner, tokens, 1, LENGTH - 1)):
        np.testing.assert_array_equal(logits, full[length])


@pytest.mark.parametrize("chunk", [1, 3, 16, 47])
def test_cutting_a_prompt_changes_nothing(
    runner: Runner, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = runner.score(SEQUENCES[1])
    monkeypatch.setattr(slot_runner, "PREFILL_CHUNK", chunk)
    np.testing.assert_array_equal(runner.score(SEQUENCES[1]), full)


def test_slot_changes_nothing(runner: Runner) -> None:
    first = runner.prefill(0, SEQUENCES[2])
    np.testing.assert_array_equal(runner.prefill(SLOTS - 1, SEQUENCES[2]), first)


@pytest.mark.parametrize("length", [1, 16, 37])
def test_a_copied_beginning_changes_nothing(runner: Runner, length: int) -> None:
    expected = alone(runner, SEQUENCES[0], 40, 4)
    runner.prefill(3, SEQUENCES[0][:length] + SEQUENCES[1][length:])
    runner.copy(3, 1, length)
    logits = runner.prefill(1, SEQUENCES[0][length:40], length)
    np.testing.assert_array_equal(logits, expected[0])
    runner.prefill(0, SEQUENCES[2])
    for step in range(4):
        logits = runner.decode([0, SEQUENCES[0][40 + step]])[1]
        np.testing.assert_array_equal(logits, expected[step + 1])


def test_fewer_slots_change_nothing(runner: Runner) -> None:
    expected = alone(runner, SEQUENCES[0], 20, 4)
    runner.prefill(0, SEQUENCES[0][:20])
    for step in range(4):
        others = [1] * (step + 1)  # batches of two, three, four and five
        logits = runner.decode([SEQUENCES[0][20 + step], *others[: SLOTS - 1]])[0]
        np.testing.assert_array_equal(logits, expected[step + 1])
