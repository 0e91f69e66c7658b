"""Short stories about a little world, with questions that only a reader can answer."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from training import plots, puzzles
from training.split import Split
from training.telling import Story
from training.words import draw_animal, draw_child

Plot = Callable[[Story], None]

PLOTS: tuple[Plot, ...] = (
    plots.lost_and_found,
    plots.gift,
    plots.wish,
    plots.storm,
    plots.baking,
    plots.rescue,
    plots.surprise,
    plots.quarrel,
    plots.race,
    plots.planting,
    plots.night,
    plots.lost_way,
    plots.trade,
)
PUZZLES: tuple[Plot, ...] = (puzzles.moving_things, puzzles.moving_things, puzzles.counting)


def tell(rng: Random, split: Split, puzzle_share: float = 0.0) -> Story:
    """Tells a story of a child and an animal; who they are decides which split it belongs to.

    Args:
        rng: Source of every choice.
        split: Side that the pair of characters belongs to.
        puzzle_share: Chance of one of `PUZZLES` in place of one of `PLOTS`.
    """
    while True:
        child, animal = draw_child(rng), draw_animal(rng)
        if split.owns("cast", child.name, animal.name):
            break
    hero, friend = (child, animal) if rng.random() < 0.6 else (animal, child)
    story = Story(rng, hero, friend)
    plot = rng.choice(PUZZLES if rng.random() < puzzle_share else PLOTS)
    plot(story)
    return story
