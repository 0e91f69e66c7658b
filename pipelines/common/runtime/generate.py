"""The generation loop for one sequence."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from pipelines.common.runtime.runner import Runner
from pipelines.common.runtime.sequence import TextSequence, Timings


def generate(runner: Runner, sequence: TextSequence, timings: Timings) -> Iterator[str]:
    """Computes `sequence` to its end, in the only slot of `runner`.

    Args:
        runner: Has one slot; what it held is forgotten.
        sequence: One that has not begun yet.
        timings: Filled in while the loop runs.

    Yields:
        Pieces of text as they become printable; some are empty.
    """
    start = time.perf_counter()
    logits = runner.prefill(0, sequence.prompt)
    timings.prefill_s = time.perf_counter() - start
    token = sequence.sample(logits)
    timings.first_token_s = time.perf_counter() - start
    yield sequence.accept(token)
    while sequence.finish_reason is None:
        start = time.perf_counter()
        token = sequence.sample(runner.decode([token])[0])
        timings.decode_s += time.perf_counter() - start
        timings.decode_steps += 1
        yield sequence.accept(token)


def warm_up(runner: Runner, prompt: Sequence[int]) -> None:
    """Runs the prompt and one decode step, so that what follows finds everything in place."""
    logits = runner.prefill(0, prompt)
    runner.decode([int(logits.argmax())])
