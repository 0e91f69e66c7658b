"""How a story is told: its sentences, its questions, and the parts that most stories share."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from training.words import (
    COLORS,
    FOOD_LIKES,
    HOBBIES,
    HOMES,
    SIZES,
    TIMES,
    TOYS,
    TRAITS,
    WEATHERS,
    Character,
    sentence_case,
    with_article,
)


@dataclass
class Story:
    """A story as it is being told.

    Attributes:
        rng: Source of every choice.
        hero: Whom the story is about.
        friend: The second character.
        paragraphs: Sentences told so far, by paragraph.
        questions: Questions with the answers that the text gives.
    """

    rng: Random
    hero: Character
    friend: Character
    paragraphs: list[list[str]] = field(default_factory=lambda: [[]])
    questions: list[tuple[str, str]] = field(default_factory=list)

    def say(self, *ways: str) -> None:
        """Tells one thing in one of several ways."""
        self.paragraphs[-1].append(sentence_case(self.rng.choice(ways)))

    def maybe(self, *ways: str) -> None:
        """Tells it half of the time."""
        if self.rng.random() < 0.5:
            self.say(*ways)

    def turn(self) -> None:
        """Starts a new paragraph."""
        self.paragraphs.append([])

    def ask(self, question: str, answer: str) -> None:
        """Records a question that the text so far, and all that follows, answers."""
        self.questions.append((question, answer))

    @property
    def text(self) -> str:
        """The story, its paragraphs separated by an empty line."""
        return "\n\n".join(" ".join(sentences) for sentences in self.paragraphs if sentences)


def draw_toy(rng: Random) -> str:
    """Draws a colored toy."""
    return f"{rng.choice(COLORS)} {rng.choice(TOYS)}"


def introduce(character: Character, rng: Random) -> str:
    """Names somebody who is new to the reader: ``a brave fox named Pip``."""
    adjective = rng.choice(SIZES + TRAITS)
    return f"{with_article(f'{adjective} {character.kind}')} named {character.name}"


def open_story(story: Story) -> None:
    """Who, where, and what the day is like."""
    hero, rng = story.hero, story.rng
    who, home = introduce(hero, rng), rng.choice(HOMES)
    kind = hero.kind
    start = rng.choice(("Once upon a time,", "Once upon a time,", "Once", "Long ago,", ""))
    if not start:
        story.say(
            f"{hero.name} was {with_article(f'{rng.choice(TRAITS)} {kind}')} who lived {home}.",
            f"{who} lived {home}.",
            f"This is a story about {who}, who lived {home}.",
            f"The {rng.choice(SIZES)} {kind} was called {hero.name} and lived {home}.",
            f"There was once {who}. {hero.He} lived {home}.",
            f"{sentence_case(home)} lived {who}.",
        )
    else:
        story.say(
            f"{start} there was {who}. {hero.He} lived {home}.",
            f"{start} there was {who} who lived {home}.",
            f"{start} {who} lived {home}.",
            f"{start} {home}, there lived {who}.",
        )
    if rng.random() < 0.25:
        story.ask(f"Where did {hero.name} live?", home)
    if hero.is_animal and rng.random() < 0.3:
        story.ask(f"What kind of animal is {hero.name}?", with_article(hero.kind))
    story.maybe(
        f"{hero.name} loved {rng.choice(HOBBIES)}.",
        f"{hero.name} liked nothing more than {rng.choice(FOOD_LIKES)}.",
        f"{hero.name} liked long walks and good stories.",
        f"Everybody there liked {hero.name}.",
        f"{hero.name} was always busy.",
        f"{hero.He} woke up early every day.",
        f"Every night, {hero.he} looked at the stars.",
    )


def one_day(story: Story) -> str:
    """Begins a sentence with the day on which it all happened."""
    rng = story.rng
    if rng.random() < 0.5:
        return "One day,"
    weather, time = rng.choice(WEATHERS), rng.choice(TIMES)
    story.ask("What was the weather like?", weather)
    story.ask("What time of day was it?", time)
    return rng.choice((f"One {weather} {time},", f"On {with_article(weather)} {time},"))


def meet(story: Story) -> None:
    """Brings in the friend, who has not been named before."""
    hero, friend, rng = story.hero, story.friend, story.rng
    who = introduce(friend, rng)
    story.say(
        f"{hero.name} had a friend, {who}.",
        f"{hero.name}'s best friend was {who}.",
        f"{hero.name} often played with {who}.",
        f"Next door lived {who}.",
    )
    ask_kind_of_friend(story)


def encounter(story: Story) -> None:
    """Has the hero come across the friend."""
    hero, friend, rng = story.hero, story.friend, story.rng
    who = introduce(friend, rng)
    story.say(
        f"On the way, {hero.he} met {who}.",
        f"Soon {hero.name} met {who}.",
        f"Then {who} came along.",
        f"There {hero.he} saw {who}.",
    )
    ask_kind_of_friend(story)


def ask_kind_of_friend(story: Story) -> None:
    """Sometimes asks what animal the friend is."""
    friend = story.friend
    if friend.is_animal and story.rng.random() < 0.4:
        story.ask(f"What kind of animal is {friend.name}?", with_article(friend.kind))


def close_story(story: Story, feeling: str) -> None:
    """How it ended, and sometimes what was learned."""
    hero, friend = story.hero, story.friend
    ways = [
        f"{hero.name} and {friend.name} danced and sang.",
        f"{hero.name} gave {friend.name} a big hug.",
        f"{hero.name} and {friend.name} sat together and looked at the sky.",
        "They laughed together for a long time.",
    ]
    if not any('"' in last for last in story.paragraphs[-1][-1:]):
        ways += [
            f'"What a day!" said {friend.name}.',
            f'"You are a good friend," said {friend.name}.',
            f'"I am glad that you are my friend," said {hero.name}.',
        ]
    story.maybe(*ways)
    story.say(
        f"That night, {hero.name} was {feeling} and slept well.",
        f"In the end, {hero.name} was very {feeling}.",
        f"{hero.name} went home {feeling}.",
        f"{hero.name} felt {feeling}, and so did {friend.name}.",
        f"From that day on, they were the best of friends, and {hero.name} was {feeling}.",
    )
    story.ask(f"How did {hero.name} feel at the end?", feeling)
    story.maybe(
        "And they lived happily ever after.",
        "It was a day that they never forgot.",
        "It is good to have a friend.",
        "A kind heart is worth more than gold.",
        "The moon shone over the quiet land.",
        "And that is the end of the story.",
    )
