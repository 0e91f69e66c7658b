"""How far a target's logits are from the reference's, for `benchmarks.gpu`.

The reference is the network on torch's tensors in float32, on the same device, with the exact
values of the same weights. Both read the same random tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu_parts.model import make_target, open_model, random_tokens
from benchmarks.gpu_parts.part import Part, Recorder, Settings
from pipelines.common.program.runner import Runner
from pipelines.common.targets.torch import TorchTarget

Logits = NDArray[np.float32]


def parity(part: Part, settings: Settings, recorder: Recorder) -> None:
    """Records the differences in a prompt, and in steps of one and of several sequences."""
    model = open_model(part, settings)
    count = settings.parity_tokens
    several = max(batch for batch in settings.batches if batch <= 8)
    texts = [random_tokens(model, count, seed=slot) for slot in range(several)]
    deployment = model.deployment(slots=several, max_length=count)
    reference = TorchTarget(settings.device).start(deployment)
    expected = np.stack([reference.score(text) for text in texts])
    del reference
    torch.cuda.empty_cache()  # the target asks how much memory is free
    runner = make_target(settings, part.options).start(deployment)
    tasks: dict[str, Callable[[], tuple[Logits, Logits]]] = {
        "prompt": lambda: (expected[0], runner.score(texts[0])),
        "steps of one": lambda: _steps(runner, texts[:1], expected[:1]),
        f"steps of {several}": lambda: _steps(runner, texts, expected),
    }
    for task, compute in tasks.items():
        with recorder.attempt(task):
            wanted, found = compute()
            recorder.record("parity", **part.labels, task=task, **difference(wanted, found))


def difference(expected: Logits, found: Logits) -> dict[str, float]:
    """How logits ``[..., vocabulary]`` differ.

    Returns:
        The largest and the mean difference; the standard deviation of what was expected; the share
        of first choices that are the same; and by how much, at the most, the expected logits prefer
        their own choice to the one found.
    """
    gap = np.abs(found.astype(np.float64) - expected)
    best, chosen = expected.argmax(-1), found.argmax(-1)
    own, other = (np.take_along_axis(expected, choice[..., None], -1) for choice in (best, chosen))
    return {
        "largest": float(gap.max()),
        "mean": float(gap.mean()),
        "deviation": float(expected.std()),
        "agreement": float((best == chosen).mean()),
        "preference": float((own - other).max()),
    }


def _steps(runner: Runner, texts: list[list[int]], expected: Logits) -> tuple[Logits, Logits]:
    """The first half of each text as a prompt, then step by step."""
    begin = len(texts[0]) // 2
    for slot, text in enumerate(texts):
        runner.prefill(slot, text[:begin])
    found = [
        runner.decode([text[place] for text in texts]).copy()
        for place in range(begin, len(texts[0]))
    ]
    return expected[:, begin:], np.stack(found, axis=1)
