"""The generator's grammar, and that its answers follow from its text."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from random import Random

import pytest

from training import puzzles
from training.documents import BEGIN, END, END_OF_TURN, documents
from training.split import Split
from training.stories import PLOTS, PUZZLES, Plot, tell
from training.telling import Story
from training.words import draw_animal, draw_child

SPOT = r"((?:in|on|under|behind|beside|near) the [a-z ]+)"


def tell_with(plot: Plot, seed: int) -> Story:
    rng = Random(seed)
    story = Story(rng, draw_child(rng), draw_animal(rng))
    plot(story)
    return story


@pytest.mark.parametrize("plot", sorted({*PLOTS, *PUZZLES}, key=lambda plot: plot.__name__))
def test_every_plot_writes_clean_english_and_asks_what_it_answers(plot: Plot) -> None:
    for seed in range(200):
        story = tell_with(plot, seed)
        text = story.text
        assert not re.search(r"  |\.\.|[{}]|\bNone\b| [.,!?]", text), text
        assert not re.search(r"\ba [aeiou]|\ban (?!hour)[^aeiou\W]", text, re.IGNORECASE), text
        assert text.count('"') % 2 == 0, text
        assert all(paragraph.lstrip('"')[0].isupper() for paragraph in text.split("\n\n")), text
        assert not re.search(r'[.!] "?[a-z]', text), text
        assert text[-1] in '.!?"'
        assert story.questions
        assert not [q for q, times in Counter(q for q, _ in story.questions).items() if times > 1]
        for question, answer in story.questions:
            if not question.startswith("How many"):
                assert answer.lower().split(" ", 1)[-1] in text.lower(), (question, answer, text)


def test_places_asked_for_are_those_a_reader_would_track() -> None:
    put = rf"(\w+) (?:put|left|hid) the (\w+ \w+) {SPOT}\."
    moved = rf"(\w+) moved the (\w+ \w+)\. Now it was {SPOT}\."
    taken = rf"(\w+) (?:took|found) the (\w+ \w+) and put it {SPOT}\."
    carried = rf"(\w+) carried the (\w+ \w+) away and left it {SPOT}\."
    for seed in range(300):
        story = tell_with(puzzles.moving_things, seed)
        events = sorted(
            (match.start(), *match.groups())
            for pattern in (put, moved, taken, carried)
            for match in re.finditer(pattern, story.text)
        )
        answers = {question.replace(" now?", "?"): answer for question, answer in story.questions}
        for thing in {thing for _, _, thing, _ in events}:
            history = [(who, spot) for _, who, what, spot in events if what == thing]
            assert answers[f"Where is the {thing}?"] == history[-1][1]
            assert answers[f"Who was the last to move the {thing}?"] == history[-1][0]
            if len(history) > 1:
                assert answers[f"Where was the {thing} at first?"] == history[0][1]


def test_counts_asked_for_are_those_a_reader_would_work_out() -> None:
    more = re.compile(r"(?:found|him|her|got) (\d+) more\.")
    fewer = re.compile(r"(?:gave|ate|lost) (\d+)(?: of them| to \w+)?\.|gave \w+ (\d+) of them\.")
    for seed in range(300):
        story = tell_with(puzzles.counting, seed)
        answers = {re.sub(r"many \w+", "many", q): a for q, a in story.questions}
        name = story.hero.name
        first = re.search(r"(?:found|had) (\d+) \w+", story.text)
        assert first is not None
        count = int(first[1]) + sum(int(match[1]) for match in more.finditer(story.text))
        count -= sum(int(match[1] or match[2]) for match in fewer.finditer(story.text))
        assert answers[f"How many did {name} have at first?"] == first[1]
        assert answers[f"How many does {name} have now?"] == str(count), story.text


def test_pronouns_fit_the_characters() -> None:
    """Where both are girls, no male pronoun appears, and the other way round."""
    wrong = {"he": r"\b(she|her|hers)\b", "she": r"\b(he|him|his)\b"}
    outsiders = re.compile(r"an old woman|mother|father|grandmother|the king|she said|He thanked")
    checked = 0
    for seed in range(3000):
        story = tell(Random(seed), Split.TRAIN)
        if story.hero.he == story.friend.he and not outsiders.search(story.text):
            checked += 1
            assert not re.search(wrong[story.hero.he], story.text, re.IGNORECASE), story.text
    assert checked > 500


def test_documents_are_delimited_and_chats_are_well_formed() -> None:
    turn = r"<\|start_header_id\|>(?:system|user|assistant)<\|end_header_id\|>\n\n[^<]+"
    chats = 0
    for document in islice(documents(5, Split.TRAIN), 500):
        assert document.startswith(BEGIN)
        assert document.endswith(END)
        body = document.removeprefix(BEGIN).removesuffix(END)
        if "<|" in body:
            chats += 1
            assert re.fullmatch(f"(?:{turn}{re.escape(END_OF_TURN)})+", body), body
    assert chats > 20


def test_sums_are_right_wherever_they_appear() -> None:
    sums = [
        match.groups()
        for document in islice(documents(6, Split.TRAIN), 1000)
        for match in re.finditer(r"What is (\d+) \+ (\d+)\?\D+(\d+)", document)
    ]
    assert len(sums) > 300
    assert all(int(first) + int(second) == int(total) for first, second, total in sums)


def test_the_same_seed_writes_the_same_documents() -> None:
    first, again, other = (list(islice(documents(seed, Split.TRAIN), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
