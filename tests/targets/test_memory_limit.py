"""A run that does not fit is refused before anything of its size is allocated."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from tiny_models import llama, open_model, write_gguf

from pipelines.common.errors import MemoryLimitError
from pipelines.common.program import target as target_module

GIB = 1 << 30


@pytest.mark.parametrize(("target", "states"), [("torch", 2), ("cpu", 1)])  # torch makes another
def test_needed_and_available_memory_are_named(
    tmp_path: Path, target: str, states: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "available_memory", lambda: 3 * GIB)
    model = open_model(write_gguf(tmp_path / "model.gguf", llama()), target=target)
    max_length = (8 << 20) // states  # at 2 layers * 2 halves * 2 heads * 64 * 4 bytes: 16 GiB
    model.start(slots=1, max_length=16)  # imports and caches are not what is measured
    tracemalloc.start()
    try:
        with pytest.raises(MemoryLimitError) as error:
            model.start(slots=1, max_length=max_length)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    message = str(error.value)
    assert "\n" not in message
    assert "KV 16.0 GiB" in message
    assert "3.0 GiB is available" in message
    assert peak < 64 << 20


@pytest.mark.parametrize(
    ("target", "max_length", "largest"),
    # 64 MiB a slot; less than that is left beside the weights of the last. The reference has
    # scores and probabilities of 512 tokens and all others, in 4 heads: 256 MiB.
    [("cpu", 1 << 15, 15), ("torch", 1 << 14, 11)],
)
def test_the_largest_batch_that_fits_is_named(
    tmp_path: Path, target: str, max_length: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "available_memory", lambda: GIB)
    model = open_model(write_gguf(tmp_path / "model.gguf", llama()), target=target)
    with pytest.raises(MemoryLimitError) as error:
        model.start(slots=256, max_length=max_length)
    message = str(error.value)
    assert "KV 0.1 GiB for each of 256 sequences, working memory" in message
    assert message.endswith(f"`slots` {largest} is the largest that fits")
    assert error.value.slots == largest
    assert error.value.needed > 16 * GIB > error.value.available == GIB
    with pytest.raises(MemoryLimitError, match=f"`slots` {largest} is the largest"):
        model.start(slots=largest + 1, max_length=max_length)
    assert model.start(slots=largest, max_length=max_length).slots == largest


def test_no_batch_is_named_where_not_even_one_sequence_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "available_memory", lambda: GIB)
    model = open_model(write_gguf(tmp_path / "model.gguf", llama()))
    with pytest.raises(MemoryLimitError, match="lower `max_length`"):
        model.start(slots=4, max_length=1 << 20)
