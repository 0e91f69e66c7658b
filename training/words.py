"""The little world's vocabulary, and the grammar that its sentences need."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

GIRLS = (
    "Mia",
    "Anna",
    "Lily",
    "Sara",
    "Emma",
    "Ruby",
    "Nora",
    "Ella",
    "Lucy",
    "Rosa",
    "Zoe",
    "Ida",
)
BOYS = ("Tom", "Ben", "Max", "Leo", "Sam", "Finn", "Jack", "Noah", "Paul", "Theo", "Tim", "Oscar")
ANIMALS = (
    "rabbit", "fox", "bear", "mouse", "owl", "duck", "cat", "dog", "frog", "turtle", "squirrel",
    "hedgehog", "sheep", "goat", "pony", "otter",
)  # fmt: skip
PETS_HER = ("Daisy", "Pearl", "Hazel", "Molly", "Poppy", "Tilly", "Luna", "Honey")
PETS_HIM = ("Rusty", "Bruno", "Pip", "Toby", "Oliver", "Milo", "Barney", "Jasper")
SIZES = ("little", "small", "young", "tiny")
TRAITS = ("kind", "brave", "curious", "cheerful", "gentle", "clever", "quiet", "friendly")

COLORS = ("red", "blue", "green", "yellow", "white", "black", "brown", "pink", "orange", "purple")
TOYS = (
    "ball", "kite", "book", "hat", "cup", "drum", "doll", "boat", "bell", "key", "scarf",
    "blanket", "lamp", "spoon", "ribbon", "whistle", "umbrella", "button", "coat", "flute",
)  # fmt: skip
SPOTS = (
    "in the box", "in the basket", "in the drawer", "in the bag", "in the bucket", "in the chest",
    "in the kitchen", "in the garden", "in the barn", "on the table", "on the shelf",
    "on the chair", "on the roof", "under the bed", "under the table", "under the old tree",
    "behind the door", "behind the sofa", "beside the well", "near the window",
)  # fmt: skip
HOMES = (
    "in a small village", "on a farm", "in a house by the sea", "at the edge of a forest",
    "near a river", "in a little town", "on a green hill", "in a cottage by the lake",
)  # fmt: skip
OUTINGS = (
    "forest",
    "meadow",
    "garden",
    "beach",
    "market",
    "park",
    "river",
    "hill",
    "lake",
    "field",
)
AT = {
    "forest": "in", "meadow": "in", "garden": "in", "park": "in", "field": "in", "beach": "at",
    "market": "at", "river": "at", "lake": "at", "hill": "on",
}  # fmt: skip
THINGS = (
    ("apple", "apples"), ("pear", "pears"), ("nut", "nuts"), ("cookie", "cookies"),
    ("egg", "eggs"), ("flower", "flowers"), ("shell", "shells"), ("stone", "stones"),
    ("carrot", "carrots"), ("plum", "plums"), ("feather", "feathers"), ("candle", "candles"),
)  # fmt: skip
FOODS = (
    "apple pie", "carrot cake", "bowl of soup", "loaf of bread", "plum cake", "pot of jam",
    "honey cake", "berry pie",
)  # fmt: skip
HOBBIES = (
    "to sing", "to dance", "to draw", "to swim", "to read", "to climb trees", "to look for stones",
    "to watch the clouds", "to play in the sun", "to jump over puddles",
)  # fmt: skip
FOOD_LIKES = ("sweet apples", "warm milk", "fresh bread", "honey", "berries", "soup")
WEATHERS = ("sunny", "rainy", "windy", "snowy", "foggy", "warm", "cold", "cloudy")
TIMES = ("morning", "afternoon", "evening")


@dataclass(frozen=True)
class Character:
    """Somebody in a story.

    Attributes:
        name: Given name.
        kind: ``girl``, ``boy`` or the animal.
        he: Subject pronoun.
        him: Object pronoun.
        his: Possessive pronoun.
    """

    name: str
    kind: str
    he: str
    him: str
    his: str

    @property
    def He(self) -> str:  # noqa: N802
        """Subject pronoun at the start of a sentence."""
        return self.he.capitalize()

    @property
    def is_animal(self) -> bool:
        """Whether this is one of the animals."""
        return self.kind not in ("girl", "boy")


def draw_child(rng: Random) -> Character:
    """Draws a girl or a boy."""
    if rng.random() < 0.5:
        return Character(rng.choice(GIRLS), "girl", "she", "her", "her")
    return Character(rng.choice(BOYS), "boy", "he", "him", "his")


def draw_animal(rng: Random) -> Character:
    """Draws an animal; no child has an animal's name."""
    kind = rng.choice(ANIMALS)
    if rng.random() < 0.5:
        return Character(rng.choice(PETS_HER), kind, "she", "her", "her")
    return Character(rng.choice(PETS_HIM), kind, "he", "him", "his")


def with_article(noun: str) -> str:
    """Puts ``a`` or ``an`` before a noun phrase of this vocabulary."""
    return f"{'an' if noun[0] in 'aeiou' and not noun.startswith('uni') else 'a'} {noun}"


def counted(number: int, thing: tuple[str, str]) -> str:
    """Writes ``1 apple`` or ``3 apples`` of a (singular, plural) pair."""
    return f"{number} {thing[0] if number == 1 else thing[1]}"


def sentence_case(text: str) -> str:
    """Makes the first letter a capital and leaves the rest alone."""
    return text[:1].upper() + text[1:]
