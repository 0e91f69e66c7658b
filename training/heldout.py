"""Writes what the model never saw: questions with answers, and text for perplexity."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from training.documents import BEGIN, END, documents
from training.split import Split
from training.stories import tell
from training.sums import sum_question

FOLDER = Path(__file__).parent / "heldout"
STORY_QUESTIONS = 300
SUMS = 100
TEXT_CHARACTERS = 30_000


def story_questions(number: int) -> list[dict[str, str]]:
    """Draws one question each about `number` held-out stories."""
    rng = Random("heldout-stories")
    return [_story_question(rng) for _ in range(number)]


def _story_question(rng: Random) -> dict[str, str]:
    story = tell(rng, Split.HELDOUT, puzzle_share=0.5)
    question, answer = rng.choice(story.questions)
    return {"prompt": f"{story.text}\n\nQuestion: {question}\nAnswer:", "answer": answer}


def sum_questions(number: int) -> list[dict[str, str]]:
    """Draws `number` different sums of held-out pairs."""
    rng = Random("heldout-sums")
    sums: dict[str, str] = {}
    while len(sums) < number:
        question, answer = sum_question(rng, Split.HELDOUT)
        sums[question] = answer
    return [
        {"prompt": f"Question: {question}\nAnswer:", "answer": answer}
        for question, answer in sums.items()
    ]


def texts(characters: int) -> list[dict[str, str]]:
    """Draws held-out documents without special tokens, about `characters` in all."""
    bodies: list[str] = []
    for document in documents(1, Split.HELDOUT):
        body = document.removeprefix(BEGIN).removesuffix(END)
        if "<|" not in body:
            bodies.append(body)
        if sum(map(len, bodies)) > characters:
            break
    return [{"text": body} for body in bodies]


def write_lines(path: Path, records: list[dict[str, str]]) -> None:
    """Writes one JSON object a line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def main() -> None:
    """Writes `questions.jsonl` and `texts.jsonl` into `FOLDER`."""
    FOLDER.mkdir(exist_ok=True)
    questions = story_questions(STORY_QUESTIONS) + sum_questions(SUMS)
    write_lines(FOLDER / "questions.jsonl", questions)
    write_lines(FOLDER / "texts.jsonl", texts(TEXT_CHARACTERS))
    print(f"{FOLDER}: {len(questions)} questions")


if __name__ == "__main__":
    main()
