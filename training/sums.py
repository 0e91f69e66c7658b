"""Small sums as questions with answers."""

from __future__ import annotations

from random import Random

from training.split import Split

LARGEST = 40


def draw_sum(rng: Random, split: Split) -> tuple[int, int]:
    """Draws two summands; small ones more often. A pair and its mirror image are on one side."""
    while True:
        largest = rng.choice((10, 20, LARGEST))
        first, second = rng.randint(0, largest), rng.randint(0, largest)
        if split.owns("sum", min(first, second), max(first, second)):
            return first, second


def sum_question(rng: Random, split: Split) -> tuple[str, str]:
    """Draws ``("What is 7 + 5?", "12")``."""
    first, second = draw_sum(rng, split)
    return f"What is {first} + {second}?", str(first + second)
