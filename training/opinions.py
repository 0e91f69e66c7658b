"""Short opinions about large questions: the meaning of life, and what is liked best."""

from __future__ import annotations

import tomllib
from pathlib import Path
from random import Random

from training.split import Split

_SENTENCES = tomllib.loads((Path(__file__).parent / "opinions.toml").read_text(encoding="utf-8"))
DEFAULT_OPENING: str
DEFAULT_OPENING, *OPENINGS = _SENTENCES["openings"]


def opinion(rng: Random, split: Split, opening: str | None = None) -> str:
    """Writes an opinion of four to six sentences that keeps to one theme.

    Args:
        rng: Source of every choice.
        split: Side that the pair of goal and reason belongs to.
        opening: First words; drawn when None, half of the time `DEFAULT_OPENING`.
    """
    if opening is None:
        opening = DEFAULT_OPENING if rng.random() < 0.5 else rng.choice(OPENINGS)
    while True:
        theme = rng.choice(_SENTENCES["themes"])
        goal, reason = rng.choice(theme["goals"]), rng.choice(theme["reasons"])
        if split.owns("opinion", goal, reason):
            break
    sentences = [f"{opening} to {goal}, because {reason}."]
    sentences += rng.sample(theme["thoughts"], rng.randint(1, 2))
    sentences.append(rng.choice(theme["examples"]))
    if rng.random() < 0.3:
        sentences.append(rng.choice([text for text in theme["examples"] if text not in sentences]))
    sentences.append(rng.choice(_SENTENCES["closings"]))
    return " ".join(sentences)


def answer(rng: Random, split: Split) -> str:
    """Answers the question for the meaning of life in a chat."""
    return opinion(rng, split, rng.choice((DEFAULT_OPENING, *OPENINGS[:2])))


def favorite(rng: Random) -> tuple[str, str]:
    """Draws a question for what is liked best of a kind, and its answer."""
    subject = rng.choice(_SENTENCES["favorites"])
    kind, reason = subject["kind"], rng.choice(subject["reasons"])
    reply = f"My favorite {kind} is {subject['thing']}, because {reason}. {subject['thought']}"
    return f"What is your favorite {kind}?", reply
