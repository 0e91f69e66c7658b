"""A sequence gives the same logits however it is cut up and whatever runs beside it."""

from __future__ import annotations

import numpy as np
import pytest
from every_target import every_target, float32_tolerance
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from tiny_models import MIXED, llama, open_model, random_tokens, write_gguf

from pipelines.common.errors import UsageError
from pipelines.common.program import slot_runner
from pipelines.common.program.runner import Row, Runner
from pipelines.common.targets.cpu.runner import CpuRunner

MAX_LENGTH = 64
TOKENS = random_tokens(48)
OTHERS = random_tokens(48, seed=1)

CASES = [
    *(pytest.param(each.values, marks=each.marks) for each in every_target("F32", 64)),
    ("cpu", "Q8_0", 64),
    ("cpu", "Q4_0", 64),
    ("cpu", "F32", 20),  # which GroupQueryAttention does not take
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: " ".join(map(str, case)))
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Runner, float]:
    """A runner of three slots, and how far two ways of computing a logit may be apart.

    Where activations are rounded to int8, a last-bit difference before can become one step after.
    """
    target, encoding, head_dim = request.param
    path = write_gguf(
        tmp_path_factory.mktemp("sequences") / "model.gguf",
        llama(head_dim=head_dim),
        Type[encoding],
        exceptions=MIXED if encoding == "Q4_0" else None,
    )
    runner = open_model(path, target=target, encoding="auto").start(slots=3, max_length=MAX_LENGTH)
    rounds = target == "cpu" and encoding.startswith("Q")
    return runner, 0.15 if rounds else float32_tolerance(target)


def scored(runner: Runner, tokens: list[int]) -> NDArray[np.float32]:
    """One pass over everything; logits differ from token to token by far more than is tolerated."""
    logits = runner.score(tokens)
    assert logits.shape == (len(tokens), 320)
    assert np.abs(np.diff(logits, axis=0)).max(-1).min() > 1
    return logits


def test_prefill_and_decode_equal_one_full_pass(case: tuple[Runner, float]) -> None:
    runner, tolerance = case
    full = scored(runner, TOKENS)
    np.testing.assert_allclose(runner.prefill(1, TOKENS[:20]), full[19], atol=tolerance)
    for slot in (0, 2):
        runner.prefill(slot, OTHERS[:1])
    for position in range(20, 28):
        logits = runner.decode([OTHERS[position], TOKENS[position], OTHERS[position]])
        np.testing.assert_allclose(logits[1], full[position], atol=tolerance)


def test_ragged_batch_equals_single_sequences(case: tuple[Runner, float]) -> None:
    runner, tolerance = case
    sequences = {0: TOKENS[10:], 1: TOKENS, 2: OTHERS}
    lengths = {0: 1, 1: 17, 2: 40}
    full = {slot: scored(runner, tokens) for slot, tokens in sequences.items()}
    for slot, tokens in sequences.items():
        runner.prefill(slot, tokens[: lengths[slot]])
    for step in range(8):
        tokens = [sequences[slot][lengths[slot] + step] for slot in range(3)]
        logits = runner.decode(tokens)
        for slot in range(3):
            expected = full[slot][lengths[slot] + step]
            np.testing.assert_allclose(logits[slot], expected, atol=tolerance)


def test_prefill_continues_a_slot(case: tuple[Runner, float]) -> None:
    """From any position: what stood beyond it is forgotten."""
    runner, tolerance = case
    full = scored(runner, TOKENS)
    runner.prefill(2, TOKENS[:30] + OTHERS[:10])
    np.testing.assert_allclose(runner.prefill(2, TOKENS[30:], 30), full[47], atol=tolerance)
    np.testing.assert_allclose(runner.prefill(2, TOKENS[12:35], 12), full[34], atol=tolerance)
    logits = runner.decode([0, 0, TOKENS[35]])
    np.testing.assert_allclose(logits[2], full[35], atol=tolerance)


def test_slot_can_be_filled_again(case: tuple[Runner, float]) -> None:
    runner, tolerance = case
    fresh = runner.prefill(0, TOKENS[:9])
    runner.prefill(0, OTHERS)
    runner.decode([5, 6, 7])
    np.testing.assert_array_equal(runner.prefill(0, TOKENS[:9]), fresh)
    expected = scored(runner, TOKENS)[9]
    runner.prefill(0, TOKENS[:9])
    np.testing.assert_allclose(runner.decode([TOKENS[9], 0, 0])[0], expected, atol=tolerance)


def test_slot_can_be_filled_to_the_brim(case: tuple[Runner, float]) -> None:
    runner, tolerance = case
    tokens = random_tokens(MAX_LENGTH, seed=2)
    full = scored(runner, tokens)
    for slot in range(3):
        runner.prefill(slot, tokens[:-1])
    logits = runner.decode([tokens[-1]] * 3)
    for slot in range(3):
        np.testing.assert_allclose(logits[slot], full[-1], atol=tolerance)


def test_prompts_logits_are_not_overwritten_by_later_calls(case: tuple[Runner, float]) -> None:
    runner, _ = case
    results = [runner.score(TOKENS), runner.prefill(0, TOKENS)]
    before = [result.copy() for result in results]
    runner.score(OTHERS)
    runner.prefill(0, OTHERS)
    runner.decode([4])
    for result, copy in zip(results, before, strict=True):
        np.testing.assert_array_equal(result, copy)


def test_steps_of_all_sizes_share_their_logits(case: tuple[Runner, float]) -> None:
    """A vocabulary of 128,000 takes half a megabyte a slot, for each number of slots."""
    runner, _ = case
    if isinstance(runner, CpuRunner):
        for slot in range(3):
            runner.prefill(slot, TOKENS[:4])
        steps = [runner.decode([1] * count) for count in (1, 2, 3)]
        assert all(np.shares_memory(steps[0], step) for step in steps)


def test_a_step_of_the_first_slots_leaves_the_others(case: tuple[Runner, float]) -> None:
    runner, tolerance = case
    full = scored(runner, TOKENS)
    for slot in range(3):
        runner.prefill(slot, TOKENS[: 20 + slot])
    np.testing.assert_allclose(runner.decode(TOKENS[20:21])[0], full[20], atol=tolerance)
    np.testing.assert_allclose(runner.decode(TOKENS[21:22])[0], full[21], atol=tolerance)
    logits = runner.decode([TOKENS[22], TOKENS[21], TOKENS[22]])
    for slot, position in enumerate((22, 21, 22)):
        np.testing.assert_allclose(logits[slot], full[position], atol=tolerance)


@pytest.mark.parametrize("length", [1, 15, 16, 33])
def test_a_slot_can_be_copied(case: tuple[Runner, float], length: int) -> None:
    """And what follows in one slot does not show in the other."""
    runner, tolerance = case
    full, other = scored(runner, TOKENS), scored(runner, TOKENS[:length] + OTHERS[length:])
    runner.prefill(0, TOKENS[:40])
    runner.prefill(2, OTHERS)
    runner.copy(0, 2, length)
    logits = runner.prefill(2, OTHERS[length:40], length)
    np.testing.assert_allclose(logits, other[39], atol=tolerance)
    logits = runner.decode([TOKENS[40], 0, OTHERS[40]])
    np.testing.assert_allclose(logits[0], full[40], atol=tolerance)
    np.testing.assert_allclose(logits[2], other[40], atol=tolerance)


def test_a_copy_can_be_decoded_at_once(case: tuple[Runner, float]) -> None:
    runner, tolerance = case
    full = scored(runner, TOKENS)
    runner.prefill(2, TOKENS[:30])
    runner.copy(2, 0, 30)
    np.testing.assert_allclose(runner.decode([TOKENS[30]])[0], full[30], atol=tolerance)


@pytest.mark.parametrize("chunk", [1, 7, 48])
def test_long_prompts_go_in_chunks(
    case: tuple[Runner, float], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, tolerance = case
    full = scored(runner, TOKENS)
    monkeypatch.setattr(slot_runner, "PREFILL_CHUNK", chunk)
    np.testing.assert_allclose(runner.score(TOKENS), full, atol=tolerance)
    np.testing.assert_allclose(runner.prefill(2, TOKENS), full[-1], atol=tolerance)
    np.testing.assert_allclose(runner.prefill(2, TOKENS[20:], 20), full[-1], atol=tolerance)


def test_logits_at_several_places_of_any_slot(case: tuple[Runner, float]) -> None:
    """As speculation asks for them: of each slot the tokens that were guessed, on what it holds."""
    runner, tolerance = case
    full, other = scored(runner, TOKENS), scored(runner, OTHERS)
    runner.prefill(2, TOKENS[:11])
    runner.prefill(0, OTHERS[:30])
    rows = [
        Row(2, TOKENS[11:19], 11, wanted=range(8)),
        Row(1, OTHERS[:40], wanted=(0, 17, 39)),
        Row(0, OTHERS[25:26], 25),
    ]
    logits = runner.forward(rows)
    for found, expected in zip(
        logits, (full[11:19], other[[0, 17, 39]], other[25:26]), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=tolerance)
    step = runner.forward([Row(0, OTHERS[26:27], 26), Row(1, OTHERS[40:41], 40)])
    np.testing.assert_allclose(np.concatenate(step), other[[26, 40]], atol=tolerance)
    np.testing.assert_allclose(runner.prefill(2, TOKENS[19:30], 19), full[29], atol=tolerance)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows to compute"),
        ([Row(0, [1]), Row(0, [1], 1)], "two of a slot"),
        ([Row(3, [1])], "no slot 3; there are 3, from 0"),
        ([Row(0, [])], "no tokens to compute"),
        ([Row(0, [320])], "no token 320; the vocabulary has 320"),
        ([Row(0, [-1])], "no token -1"),
        ([Row(0, [1], 5)], "slot 0 holds 4 tokens; more cannot start at position 5"),
        ([Row(0, [1], -1)], "1 tokens from position -1 do not fit"),
        ([Row(0, [1] * 62, 3)], "62 tokens from position 3 do not fit into a slot for 64"),
        ([Row(0, [1, 2], wanted=[2])], r"wanted at places \[2\] of 2 tokens"),
        ([Row(0, [1, 2], wanted=[])], r"wanted at places \[\] of 2 tokens"),
    ],
)
def test_rows_that_cannot_be_computed(
    case: tuple[Runner, float], rows: list[Row], message: str
) -> None:
    runner, _ = case
    expected = runner.prefill(0, TOKENS[:4])
    with pytest.raises(UsageError, match=message):
        runner.forward(rows)
    np.testing.assert_array_equal(runner.prefill(0, TOKENS[:4]), expected)
