"""Plots that are there for their questions: things are moved and counted."""

from __future__ import annotations

from training.telling import Story, one_day
from training.words import AT, COLORS, OUTINGS, SPOTS, THINGS, TOYS, counted

# Easy ones come more often: reading is learned on them first.
FEW_OR_MANY_TOYS = (1, 1, 1, 2, 2, 3)
FEW_OR_MANY_MOVES = (0, 0, 1, 1, 2, 3)


def moving_things(story: Story) -> None:
    """Things are put here and there; only the last place counts."""
    hero, friend, rng = story.hero, story.friend, story.rng
    toys = [
        f"{color} {toy}"
        for color, toy in zip(rng.sample(COLORS, 3), rng.sample(TOYS, 3), strict=True)
    ]
    toys = toys[: rng.choice(FEW_OR_MANY_TOYS)]
    spots = rng.sample(SPOTS, 9)
    places: dict[str, list[str]] = {}
    movers: dict[str, str] = {}
    story.say(
        f"{hero.name} and {friend.name} were at home.",
        f"{hero.name} and {friend.name} were tidying up.",
        f"It was a rainy day, and {hero.name} played inside with {friend.name}.",
        f"{hero.name} and {friend.name} were playing a game.",
    )
    for toy in toys:
        who, spot = rng.choice((hero, friend)), spots.pop()
        story.say(
            f"{who.name} put the {toy} {spot}.",
            f"{who.name} left the {toy} {spot}.",
            f"{'Then' if places else 'First,'} {who.name} put the {toy} {spot}.",
        )
        places[toy], movers[toy] = [spot], who.name
    for _ in range(rng.choice(FEW_OR_MANY_MOVES)):
        if rng.random() < 0.4:
            who = rng.choice((hero, friend))
            story.say(
                f"{who.name} drank some milk.",
                f"{who.name} looked out of the window.",
                f"{who.name} sang a song.",
                f"{who.name} laughed.",
                "A bird sang outside.",
                f"{who.name} was a little tired.",
            )
        toy, who, spot = rng.choice(toys), rng.choice((hero, friend)), spots.pop()
        story.say(
            f"Then {who.name} moved the {toy}. Now it was {spot}.",
            f"Later, {who.name} took the {toy} and put it {spot}.",
            f"After that, {who.name} hid the {toy} {spot}.",
            f"But {who.name} found the {toy} and put it {spot}.",
            f"Then {who.name} carried the {toy} away and left it {spot}.",
        )
        places[toy].append(spot)
        movers[toy] = who.name
    for toy in toys:
        story.ask(f"Where is the {toy}{rng.choice(('', ' now'))}?", places[toy][-1])
        story.ask(f"Who was the last to move the {toy}?", movers[toy])
        if len(places[toy]) > 1:
            story.ask(f"Where was the {toy} at first?", places[toy][0])
        color, thing = toy.split()
        story.ask(f"What color is the {thing}?", color)


def counting(story: Story) -> None:
    """Things are found, given, eaten or lost, and counted."""
    hero, friend, rng = story.hero, story.friend, story.rng
    thing, place = rng.choice(THINGS), rng.choice(OUTINGS)
    edible = thing[0] in ("apple", "pear", "nut", "cookie", "carrot", "plum")
    has, given = rng.randint(2, 10), 0
    day = one_day(story)
    story.say(
        f"{day} {hero.name} found {counted(has, thing)} {AT[place]} the {place}.",
        f"{day} {hero.name} had {counted(has, thing)} in a basket.",
        f"{day} {hero.name} had {counted(has, thing)}.",
    )
    story.ask(f"How many {thing[1]} did {hero.name} have at first?", str(has))
    for _ in range(rng.randint(1, 2)):
        number, act = rng.randint(1, 5), rng.randrange(3)
        if act == 0:
            story.say(
                f"Then {hero.he} found {number} more.",
                f"{friend.name} gave {hero.him} {number} more.",
                f"Later, {hero.he} got {number} more.",
            )
            has += number
        elif number < has and act == 1:
            story.say(
                f"{hero.He} gave {number} to {friend.name}.",
                f"{hero.name} gave {friend.name} {number} of them.",
            )
            has, given = has - number, given + number
        elif number < has and edible:
            story.say(f"{hero.He} ate {number} of them.", f"Then {hero.name} ate {number}.")
            has -= number
        elif number < has:
            story.say(f"{hero.He} lost {number} of them.", f"Then {hero.name} lost {number}.")
            has -= number
    story.say(
        f"So {hero.name} had {counted(has, thing)}.",
        f"Now {hero.name} had {counted(has, thing)}.",
        f"{hero.name} counted again and again.",
        f'"How many do I have now?" asked {hero.name}.',
        f"{friend.name} helped {hero.him} to count them.",
    )
    story.ask(f"How many {thing[1]} does {hero.name} have now?", str(has))
    if given:
        story.ask(f"How many {thing[1]} did {hero.name} give to {friend.name}?", str(given))
