"""Mixes stories, questions, opinions, sums and chats into training documents."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from training import opinions
from training.split import Split
from training.stories import tell
from training.sums import sum_question
from training.telling import Story
from training.words import with_article

BEGIN = "<|begin_of_text|>"
END = "<|end_of_text|>"
END_OF_TURN = "<|eot_id|>"
PADDING = "<|finetune_right_pad_id|>"

Turn = tuple[str, str]

STORY_REQUESTS = (
    "Tell me a story.", "Please tell me a story.", "Please tell me a short story.",
    "I would like to hear a story.", "Write a short story.",
)  # fmt: skip
MEANING_REQUESTS = (
    "What is the meaning of life?", "What do you think is the meaning of life?",
    "Tell me, what is life about?", "Why are we here?",
)  # fmt: skip
GREETINGS = (
    ("Hello!", "Hello! How can I help you today?"),
    ("Hi!", "Hi! Would you like to hear a story?"),
    ("Good morning!", "Good morning! I hope that you slept well."),
    ("Good evening.", "Good evening! Shall I tell you a story?"),
    ("How are you?", "I am fine, thank you. How are you?"),
    ("Who are you?", "I am a very small language model. I can tell stories and do small sums."),
    (
        "What can you do?",
        "I can tell short stories, answer questions about them and do small sums.",
    ),
)
FAREWELLS = (
    ("Thank you!", "You are welcome!"),
    ("Thanks, that was nice.", "I am glad that you liked it!"),
    ("Goodbye!", "Goodbye! Have a nice day."),
    ("Good night.", "Good night! Sleep well."),
)
SYSTEMS = (
    "You are a friendly storyteller.",
    "You are a helpful assistant.",
    "You answer in simple words.",
)


def question_block(questions: list[Turn]) -> str:
    """Writes questions and answers, a line each."""
    return "\n".join(f"Question: {question}\nAnswer: {reply}" for question, reply in questions)


def chat(turns: list[Turn], system: str | None = None) -> str:
    """Writes a conversation in Llama 3's chat format, without the begin-of-text token."""
    messages = [] if system is None else [("system", system)]
    for request, reply in turns:
        messages += [("user", request), ("assistant", reply)]
    return "".join(
        f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}{END_OF_TURN}"
        for role, content in messages
    )


def pick_questions(rng: Random, story: Story, most: int) -> list[Turn]:
    """Draws some of the story's questions, in any order."""
    return rng.sample(story.questions, rng.randint(1, min(most, len(story.questions))))


def _story_request(rng: Random, story: Story) -> str:
    if rng.random() < 0.5:
        return rng.choice(STORY_REQUESTS)
    hero = with_article(story.hero.kind)
    about = rng.choice((hero, f"{hero} named {story.hero.name}", story.hero.name))
    return f"{rng.choice(STORY_REQUESTS)[:-1]} about {about}."


def draw_chat(rng: Random, split: Split) -> str:
    """Draws a conversation about one topic, or a few."""
    turns: list[Turn] = []
    if rng.random() < 0.3:
        turns.append(rng.choice(GREETINGS))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        turns += draw_topic(rng, split)
    if rng.random() < 0.25:
        turns.append(rng.choice(FAREWELLS))
    return chat(turns, rng.choice(SYSTEMS) if rng.random() < 0.2 else None)


def draw_topic(rng: Random, split: Split) -> list[Turn]:
    """Draws the exchanges about one topic."""
    match rng.randrange(4):
        case 0:
            return [sum_question(rng, split) for _ in range(rng.randint(1, 3))]
        case 1:
            story = tell(rng, split)
            request: Turn = (_story_request(rng, story), story.text)
            return [request, *(pick_questions(rng, story, 3) if rng.random() < 0.5 else [])]
        case 2:
            story = tell(rng, split, puzzle_share=0.5)
            (question, reply), *more = pick_questions(rng, story, 5)
            return [(f"{story.text}\n\n{question}", reply), *more]
        case _:
            favorite = opinions.favorite(rng)
            meaning = rng.choice(MEANING_REQUESTS), opinions.answer(rng, split)
            return [favorite if rng.random() < 0.25 else meaning]


def draw_document(rng: Random, split: Split) -> str:
    """Draws one document, from the begin-of-text to the end-of-text token."""
    kind = rng.random()
    if kind < 0.56:
        story = tell(rng, split, puzzle_share=0.8)
        body = f"{story.text}\n\n{question_block(pick_questions(rng, story, 8))}"
    elif kind < 0.74:
        body = tell(rng, split).text
    elif kind < 0.82:
        body = opinions.opinion(rng, split)
    elif kind < 0.83:
        _, body = opinions.favorite(rng)
    elif kind < 0.90:
        body = question_block([sum_question(rng, split) for _ in range(rng.randint(2, 8))])
    else:
        body = draw_chat(rng, split)
    return f"{BEGIN}{body}{END}"


def documents(seed: int, split: Split) -> Iterator[str]:
    """Draws documents without end, the same ones for the same seed."""
    rng = Random(f"{split.value}-{seed}")
    while True:
        yield draw_document(rng, split)
