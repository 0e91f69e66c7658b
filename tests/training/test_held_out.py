"""What is held out never reaches the training text."""

from __future__ import annotations

import json
import re
from itertools import islice
from random import Random

from training.documents import documents
from training.heldout import (
    FOLDER,
    STORY_QUESTIONS,
    SUMS,
    TEXT_CHARACTERS,
    story_questions,
    sum_questions,
    texts,
)
from training.split import Split
from training.stories import tell

SUM = re.compile(r"What is (\d+) \+ (\d+)\?")


def pairs(text: str) -> set[tuple[int, ...]]:
    return {tuple(sorted((int(a), int(b)))) for a, b in SUM.findall(text)}


def test_no_sum_is_on_both_sides() -> None:
    heldout = pairs("".join(item["prompt"] for item in sum_questions(100)))
    trained = pairs("".join(islice(documents(9, Split.TRAIN), 5000)))
    assert len(heldout) > 40
    assert len(trained) > 400
    assert not heldout & trained


def test_no_two_characters_meet_on_both_sides() -> None:
    casts = {
        split: {
            frozenset((story.hero.name, story.friend.name))
            for story in (tell(Random(seed), split) for seed in range(3000))
        }
        for split in Split
    }
    assert len(casts[Split.HELDOUT]) > 20
    assert not casts[Split.TRAIN] & casts[Split.HELDOUT]


def test_every_key_is_on_exactly_one_side() -> None:
    sides = [sum(split.owns("key", number) for split in Split) for number in range(1000)]
    heldout = sum(Split.HELDOUT.owns("key", number) for number in range(1000))
    assert set(sides) == {1}
    assert 50 < heldout < 150


def test_shipped_files_are_what_the_generator_writes() -> None:
    questions = [json.loads(line) for line in (FOLDER / "questions.jsonl").open()]
    assert questions == story_questions(STORY_QUESTIONS) + sum_questions(SUMS)
    shipped = [json.loads(line) for line in (FOLDER / "texts.jsonl").open()]
    assert shipped == texts(TEXT_CHARACTERS)
