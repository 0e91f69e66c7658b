"""The plots: each moves characters and objects about, and says so in one of several ways.

Each asks its questions from the state that it has reached, so the answers follow from the text.
"""

from __future__ import annotations

from training.telling import (
    Story,
    ask_kind_of_friend,
    close_story,
    draw_toy,
    encounter,
    introduce,
    meet,
    one_day,
    open_story,
)
from training.words import (
    AT,
    COLORS,
    FOODS,
    OUTINGS,
    SPOTS,
    TIMES,
    TOYS,
    sentence_case,
    with_article,
)


def lost_and_found(story: Story) -> None:
    """The hero's favorite thing is gone; the friend helps to find it."""
    hero, friend, rng = story.hero, story.friend, story.rng
    toy = draw_toy(rng)
    wrong, right = rng.sample(SPOTS, 2)
    open_story(story)
    story.say(
        f"{hero.name} had {with_article(toy)} and loved it very much.",
        f"The thing that {hero.he} loved most was {with_article(toy)}.",
        f"{hero.He} had {with_article(toy)}, a gift from {hero.his} grandmother.",
    )
    story.turn()
    day = one_day(story)
    story.say(
        f"{day} the {toy} was gone.",
        f"{day} {hero.name} could not find the {toy}.",
        f"But {day[0].lower()}{day[1:]} the {toy} was lost.",
    )
    story.say(
        f"{hero.name} was sad and began to cry.",
        f'"Oh no! Where is it?" {hero.he} cried.',
        f"{hero.He} did not know what to do.",
    )
    story.say(
        f"{hero.He} looked {wrong}, but it was not there.",
        f"First {hero.he} looked {wrong}. It was not there.",
    )
    encounter(story)
    story.say(
        f'"I will help you," said {friend.name}.',
        f'"Do not cry," said {friend.name}. "We will look for it together."',
        f'"What is wrong?" asked {friend.name}. "I have lost my {toy}," said {hero.name}.',
    )
    finder, other = (hero, friend) if rng.random() < 0.4 else (friend, hero)
    story.turn()
    story.say(
        f"They looked for a long time. At last, {finder.name} found the {toy} {right}.",
        f"They looked and looked. Then {finder.name} looked {right}, and there was the {toy}!",
        f'"Look!" cried {finder.name}. The {toy} was {right}.',
    )
    story.ask(f"Where was the {toy}?", right)
    story.ask(f"Where did {hero.name} look first?", wrong)
    story.ask(f"Who found the {toy}?", finder.name)
    story.ask(f"What did {finder.name} find?", f"the {toy}")
    story.ask(f"What did {hero.name} lose?", f"the {toy}")
    if finder is friend:
        story.say(
            f'"Thank you, {finder.name}!" said {other.name}.',
            f"{hero.name} was so glad that {hero.he} jumped up and down.",
        )
    else:
        story.say(
            f'"I knew that we would find it," said {other.name}.',
            f'"Well done, {finder.name}!" said {other.name}.',
        )
    close_story(story, rng.choice(("happy", "glad")))


def gift(story: Story) -> None:
    """The friend is sad until the hero gives something away."""
    hero, friend, rng = story.hero, story.friend, story.rng
    toy, place = draw_toy(rng), rng.choice(OUTINGS)
    open_story(story)
    day = one_day(story)
    story.say(
        f"{day} {hero.name} took {hero.his} {toy} and went to the {place}.",
        f"{day} {hero.name} went to the {place} with {with_article(toy)}.",
    )
    encounter(story)
    reason = rng.choice(
        (
            "nobody would play with",
            "the others had laughed at",
            "the other children had gone home without",
        )
    )
    story.say(
        f"{friend.name} was very sad, because {reason} {friend.him}.",
        f"{friend.name} was sitting alone and looked sad, because {reason} {friend.him}.",
    )
    story.turn()
    story.say(
        f'"Why are you sad?" asked {hero.name}.',
        f'{hero.name} sat down beside {friend.him}. "What is wrong?" {hero.he} asked.',
    )
    story.say(
        f'"I have nobody to play with," said {friend.name}.',
        f'"I feel so alone today," said {friend.name}.',
    )
    story.say(
        f"{hero.name} thought for a moment. Then {hero.he} gave the {toy} to {friend.name}.",
        f'"This is for you," said {hero.name}, and gave {friend.him} the {toy}.',
        f"So {hero.name} gave {friend.name} the {toy}.",
    )
    story.say(
        f'{friend.name} smiled. "Thank you! I will take good care of it."',
        f'"For me? Thank you so much!" said {friend.name}.',
        f"{friend.name} could not believe it. {friend.He} smiled from ear to ear.",
    )
    story.ask(f"Who has the {toy} now?", friend.name)
    story.ask(f"Who gave the {toy} away?", hero.name)
    story.ask(f"What did {hero.name} give to {friend.name}?", f"the {toy}")
    story.ask(f"Where did {hero.name} go?", f"to the {place}")
    story.ask(f"Where did {hero.name} meet {friend.name}?", f"{AT[place]} the {place}")
    story.turn()
    story.say(
        f"They played with the {toy} until it was dark.",
        "They played together all day.",
        "After that, they talked and played until evening.",
    )
    close_story(story, rng.choice(("happy", "proud", "glad")))


# What is wished for, what is in the way, what the friend advises, how it comes true.
WISHES = (
    (
        "fly like a bird",
        "{h.he} had no wings",
        "make a big kite and run down the hill",
        "the wind lifted the kite, and {h.name} flew a little way over the grass",
    ),
    (
        "see the sea",
        "the sea was very far away",
        "follow the river, because every river goes to the sea",
        "{h.name} came over a hill and saw the wide blue sea",
    ),
    (
        "learn to swim",
        "{h.he} was afraid of the water",
        "start where the water is not deep",
        "{h.name} swam all the way across the pond",
    ),
    (
        "touch a star",
        "the stars were much too high",
        "look for a star in the water of the lake",
        "{h.name} saw a star in the still water and touched it with one finger",
    ),
    (
        "read a book",
        "{h.he} did not know the letters",
        "learn one new letter every day",
        "{h.name} read a whole page without any help",
    ),
    (
        "grow the tallest flower",
        "the ground was dry and hard",
        "give the seed some water every morning",
        "a flower grew up higher than the roof",
    ),
    (
        "play the flute",
        "{h.his} songs sounded like a sick crow",
        "play one note until it sounds good",
        "{h.name} played a song so sweet that the birds stopped to listen",
    ),
    (
        "climb the high mountain",
        "the path was long and full of stones",
        "take one small step and then one more",
        "{h.name} stood on the top and saw the whole world",
    ),
    (
        "build a house in a tree",
        "{h.he} had no tools",
        "ask the neighbors for wood and a hammer",
        "the house in the tree was ready, with a door and two windows",
    ),
    (
        "sing for the king",
        "{h.he} was too shy to sing",
        "sing for one friend first, and then for two",
        "{h.name} sang for the king, and the king clapped his hands",
    ),
)


def wish(story: Story) -> None:
    """The hero wishes for something and finds a way to it."""
    hero, friend, rng = story.hero, story.friend, story.rng
    dream, obstacle, way, result = rng.choice(WISHES)
    open_story(story)
    story.say(
        f"{hero.name} had one big wish: to {dream}.",
        f"More than anything, {hero.name} wanted to {dream}.",
        f"{hero.name} dreamed of only one thing: to {dream}.",
    )
    story.say(f"But {obstacle.format(h=hero)}.", f"The trouble was that {obstacle.format(h=hero)}.")
    story.turn()
    story.say(
        f"One {rng.choice(TIMES)}, {hero.he} told {hero.his} wish to {introduce(friend, rng)}.",
        f"So {hero.he} asked for help. {sentence_case(introduce(friend, rng))} listened to "
        f"{hero.him}.",
    )
    ask_kind_of_friend(story)
    story.say(
        f'"{sentence_case(way)}," said {friend.name}, "and do not give up."',
        f'"I have an idea," said {friend.name}. "{sentence_case(way)}."',
        f'{friend.name} thought for a while. "{sentence_case(way)}," {friend.he} said.',
    )
    story.say(
        f"{hero.name} tried, but it did not work the first time.",
        f"It was hard, but {hero.name} tried every day.",
        f"{hero.name} tried again and again.",
    )
    story.maybe(
        f'"I cannot do it," said {hero.name}. "Yes, you can," said {friend.name}.',
        f"{friend.name} stayed with {hero.him} and helped.",
        "Day after day went by.",
    )
    story.turn()
    story.say(f"Then, at last, {result.format(h=hero)}.", f"One day, {result.format(h=hero)}.")
    story.say(
        f'"My wish came true!" cried {hero.name}.',
        f"{hero.name} could hardly believe it.",
        f'"Thank you, {friend.name}," said {hero.name}. "You helped me to try."',
    )
    story.ask(f"What did {hero.name} want to do?", dream)
    story.ask(f"Who helped {hero.name}?", friend.name)
    close_story(story, rng.choice(("happy", "proud")))


SHELTERS = (
    "in a dry cave", "under a bridge", "in an old barn", "in a hollow tree", "under a big leaf",
    "in a small hut", "under a rock",
)  # fmt: skip
# The weather, how it begins, how it ends.
STORMS = (
    (
        "the storm",
        "the sky turned dark and the wind began to blow",
        "the sun came out and there was a rainbow",
    ),
    (
        "the storm",
        "there was a loud clap of thunder",
        "the sky was blue again",
    ),
    (
        "the rain",
        "big drops began to fall",
        "the rain had stopped and the grass was shining",
    ),
    (
        "the snow",
        "it began to snow",
        "everything was white and quiet",
    ),
    (
        "the fog",
        "a thick fog came up",
        "the fog was gone and they could see the way home",
    ),
)


def storm(story: Story) -> None:
    """Bad weather, and a place to hide from it."""
    hero, friend, rng = story.hero, story.friend, story.rng
    place, shelter = rng.choice(OUTINGS), rng.choice(SHELTERS)
    weather, sign, sky = rng.choice(STORMS)
    open_story(story)
    story.say(
        f"One day, {hero.name} went for a walk to the {place}.",
        f"{hero.name} was playing {AT[place]} the {place}.",
    )
    story.say(
        f"Suddenly, {sign}.",
        f"Then {sign}.",
        f"But after a while, {sign}.",
    )
    story.say(
        f'"Oh dear, {weather} is coming!" said {hero.name}.',
        f"{hero.name} was afraid of {weather}.",
        f"{sentence_case(weather)} was coming, and home was far away.",
    )
    story.turn()
    story.say(f"{hero.name} ran as fast as {hero.he} could.", f"{hero.He} looked for a safe place.")
    story.say(
        f"Then {hero.he} heard a voice. It was {introduce(friend, rng)}.",
        f"Just then, {introduce(friend, rng)} called to {hero.him}.",
    )
    ask_kind_of_friend(story)
    story.say(
        f'"Come in here!" said {friend.name}, and they hid {shelter}.',
        f'"Follow me!" said {friend.name}. Together they hid {shelter}.',
    )
    story.say(
        "It was dry and warm there.",
        "There they told each other stories.",
        "They sang songs so that they were not afraid.",
        f"{friend.name} shared some bread with {hero.him}.",
    )
    story.turn()
    story.say(
        f"After an hour, {sky}.",
        f"At last it was over, and {sky}.",
        f"When they looked out, {sky}.",
    )
    story.ask("Where did they hide?", shelter)
    story.ask(f"Where was {hero.name} when the weather changed?", f"{AT[place]} the {place}")
    story.ask(f"Who helped {hero.name}?", friend.name)
    story.say(
        f'"Thank you for helping me," said {hero.name}.',
        f'"That was not so bad," said {hero.name}.',
    )
    close_story(story, rng.choice(("happy", "safe", "glad")))


def baking(story: Story) -> None:
    """Something is cooked from what several bring, and shared."""
    hero, friend, rng = story.hero, story.friend, story.rng
    food = rng.choice(FOODS)
    first, second = rng.sample(("flour", "honey", "milk", "butter", "salt", "sugar"), 2)
    noun = food.split()[-1] if " of " not in food else food.split(" of ")[1]
    open_story(story)
    meet(story)
    story.turn()
    day = one_day(story)
    story.say(
        f"{day} {hero.name} wanted to make {with_article(food)}.",
        f'{day} {hero.name} said, "Today I will make {with_article(food)}."',
        f"{day} because it was a holiday, {hero.name} wanted to make {with_article(food)}.",
    )
    story.say(
        f"But there was no {first} and no {second} in the kitchen.",
        f"{hero.He} needed {first} and {second}.",
    )
    bringer, other = rng.choice(((hero, friend), (friend, hero)))
    story.say(
        f"{bringer.name} brought the {first}, and {other.name} brought the {second}.",
        f"So {bringer.name} went to get {first}, and {other.name} went to get {second}.",
    )
    story.say(
        "They mixed everything in a big bowl.",
        "They worked together in the kitchen, and soon it smelled good.",
        f"{friend.name} helped, and they sang while they worked.",
    )
    story.turn()
    eater = rng.choice(
        ("the neighbors", "their family", "an old woman", "a hungry traveler", "the children")
    )
    story.say(
        f"When the {noun} was ready, they shared it with {eater}.",
        f"They ate some of the {noun} and gave the rest to {eater}.",
    )
    story.say(
        '"It is the best that I have ever had," they all said.' if eater != "an old woman"
        else '"It is the best that I have ever had," she said.',
        "It was warm and sweet." if noun not in ("soup", "bread") else "It was warm and good.",
        "There was enough for everybody.",
    )  # fmt: skip
    story.ask(f"What did {hero.name} make?", with_article(food))
    story.ask(f"Who brought the {first}?", bringer.name)
    story.ask(f"What did {other.name} bring?", second)
    story.ask(f"With whom did they share the {noun}?", eater)
    close_story(story, rng.choice(("happy", "full", "proud")))


RESCUES = (
    ("had fallen into a deep hole", "rope", "{h.he} pulled {f.him} out of the hole"),
    ("was stuck in a tall tree", "ladder", "{h.he} helped {f.him} to come down"),
    ("was stuck in the mud", "strong stick", "{h.he} pulled {f.him} out of the mud"),
    ("had fallen into the water", "long branch", "{h.he} pulled {f.him} to the shore"),
    ("was caught in a net", "knife", "{h.he} cut the net, and {f.name} was free"),
    ("was lost in the dark", "lantern", "{h.he} showed {f.him} the way home"),
    ("was locked in a shed", "key", "{h.he} opened the door, and {f.name} was free"),
    ("had hurt one foot", "bandage", "{h.he} helped {f.him} to walk again"),
)  # fmt: skip


def rescue(story: Story) -> None:
    """The friend is in trouble, and the hero has something that helps."""
    hero, friend, rng = story.hero, story.friend, story.rng
    trouble, tool, deed = rng.choice(RESCUES)
    place = rng.choice(OUTINGS)
    open_story(story)
    day = one_day(story)
    story.say(
        f"{day} {hero.name} walked to the {place}.",
        f"{day} {hero.he} went to the {place} to pick flowers.",
        f"{day} {hero.name} took a walk to the {place}.",
    )
    story.say(
        f'There {hero.he} heard a cry. "Help! Help!"',
        'Suddenly, somebody called, "Please help me!"',
    )
    story.say(
        f"It was {introduce(friend, rng)}. {friend.name} {trouble}.",
        f"{hero.name} ran to look. {sentence_case(introduce(friend, rng))} {trouble}.",
    )
    ask_kind_of_friend(story)
    story.turn()
    story.say(
        f'"Do not be afraid," said {hero.name}. "I will help you."',
        f'"Wait! I have an idea," said {hero.name}.',
        f"{hero.name} was afraid too, but {hero.he} wanted to help.",
    )
    story.say(
        f"{hero.He} ran home and got {with_article(tool)}.",
        f"{hero.He} looked around and found {with_article(tool)}.",
        f"Luckily, {hero.he} had {with_article(tool)}.",
    )
    story.say(
        f"With the {tool}, {deed.format(h=hero, f=friend)}.",
        f"{hero.He} used the {tool}, and {deed.format(h=hero, f=friend)}.",
    )
    story.turn()
    story.say(
        f'"You saved me!" said {friend.name}.',
        f'"Thank you, {hero.name}," said {friend.name}. "You are very brave."',
        f"{friend.name} thanked {hero.him} many times.",
    )
    story.ask(f"What did {hero.name} use?", with_article(tool))
    story.ask("Who needed help?", friend.name)
    story.ask("Who helped?", hero.name)
    story.ask(f"Where did {hero.name} go?", f"to the {place}")
    close_story(story, rng.choice(("proud", "happy", "glad")))


def surprise(story: Story) -> None:
    """A present is made and hidden for a birthday."""
    hero, friend, rng = story.hero, story.friend, story.rng
    toy = draw_toy(rng)
    first, second = rng.sample(SPOTS, 2)
    open_story(story)
    meet(story)
    story.say(
        f"Tomorrow was {friend.name}'s birthday.",
        f"Soon it would be {friend.name}'s birthday.",
    )
    story.turn()
    story.say(
        f"{hero.name} made {with_article(toy)} for {friend.him}.",
        f"{hero.name} bought {with_article(toy)} for {friend.him}.",
        f"{hero.name} wanted to give {friend.him} {with_article(toy)}.",
    )
    story.say(
        f"{hero.He} hid it {first}.", f"So that nobody would see it, {hero.he} put it {first}."
    )
    moved = rng.random() < 0.6
    if moved:
        story.say(
            f"But {friend.name} came to play, and that was not a good place. "
            f"So {hero.name} moved the {toy} and hid it {second}.",
            f'"No, somebody will find it," {hero.he} thought. '
            f"So {hero.he} took the {toy} and hid it {second}.",
            f"In the evening, {hero.he} found a better place and put the {toy} {second}.",
        )
    final = second if moved else first
    story.ask(f"Where was the {toy} hidden in the end?", final)
    if moved:
        story.ask(f"Where did {hero.name} hide the {toy} first?", first)
    story.turn()
    story.say(
        f'The next day, {hero.name} said, "Close your eyes!"',
        f"When the day came, {hero.name} sang a song for {friend.name}.",
        f'"Happy birthday, {friend.name}!" said {hero.name} the next morning.',
    )
    story.say(
        f"Then {hero.he} got the {toy} and gave it to {friend.name}.",
        f"{hero.name} took {friend.him} by the hand and gave {friend.him} the {toy}.",
    )
    story.say(
        f'"It is beautiful!" said {friend.name}.',
        f"{friend.name} was so surprised that {friend.he} could not speak.",
        f'"That is just what I wanted," said {friend.name}.',
    )
    story.ask(f"Who got the {toy}?", friend.name)
    story.ask(f"What did {friend.name} get?", f"the {toy}")
    story.ask("Whose birthday was it?", friend.name)
    close_story(story, rng.choice(("happy", "proud")))


def quarrel(story: Story) -> None:
    """Two want the same thing, and learn to share it."""
    hero, friend, rng = story.hero, story.friend, story.rng
    toy, place = draw_toy(rng), rng.choice(OUTINGS)
    open_story(story)
    meet(story)
    story.turn()
    finder = rng.choice((hero, friend))
    day = one_day(story)
    story.say(
        f"{day} they went to the {place}, and {finder.name} found {with_article(toy)}.",
        f"{day} {finder.name} found {with_article(toy)} {AT[place]} the {place}.",
    )
    story.say(
        f'"It is mine!" said {hero.name}. "No, it is mine!" said {friend.name}.',
        f"Both of them wanted to have the {toy}.",
    )
    story.say(
        "They pulled and pulled until both fell down.",
        "They were angry and did not talk for a whole day.",
        f"{friend.name} was angry and walked away.",
    )
    wiser = rng.choice((hero, friend))
    other = friend if wiser is hero else hero
    story.turn()
    story.say(
        f"After some time, {wiser.name} was sorry.",
        f"That night, {wiser.name} could not sleep.",
        f"{wiser.name} felt bad about it.",
    )
    story.say(
        f'{wiser.He} went to {other.name} and said, "I am sorry. Let us share the {toy}."',
        f'"I am sorry, {other.name}," {wiser.he} said. '
        f'"A friend is better than {with_article(toy)}."',
    )
    story.say(
        f'"I am sorry too," said {other.name}.',
        f"{other.name} smiled and said yes.",
    )
    story.say(
        f"From then on, they played with the {toy} together.",
        f"One day {hero.name} had the {toy}, and the next day {friend.name} had it.",
    )
    story.ask(f"Who found the {toy}?", finder.name)
    story.ask(f"What did {finder.name} find?", f"the {toy}")
    story.ask("Who said sorry first?", wiser.name)
    story.ask(f"Where did they find the {toy}?", f"{AT[place]} the {place}")
    close_story(story, rng.choice(("happy", "glad")))


HURDLES = (
    ("a bird with a hurt wing", "to help the bird"),
    ("a child who had fallen", "to help the child"),
    ("an old man with a heavy bag", "to carry the bag"),
    ("a beetle on its back", "to turn the beetle over"),
)


def race(story: Story) -> None:
    """The two run; the one who stops on the way is not the one who loses most."""
    hero, friend, rng = story.hero, story.friend, story.rng
    start, goal = rng.sample(OUTINGS, 2)
    leader, other = rng.choice(((hero, friend), (friend, hero)))
    hurdle, kindness = rng.choice(HURDLES)
    open_story(story)
    meet(story)
    story.turn()
    day = one_day(story)
    story.say(
        f"{day} they wanted to know who was faster.",
        f'{day} {friend.name} said, "I can run faster than you." "Let us see!" said {hero.name}.',
    )
    story.say(
        f"They ran from the {start} to the {goal}.",
        f"The race went from the {start} to the {goal}.",
    )
    story.say(
        f"At first, {leader.name} was ahead.",
        f"{leader.name} was faster in the beginning.",
    )
    kind = rng.random() < 0.5
    winner, loser = (other, leader) if kind or rng.random() < 0.5 else (leader, other)
    if kind:
        story.say(f"But then {leader.he} saw {hurdle} and stopped {kindness}.")
        story.say(
            f"So {winner.name} came to the {goal} first.",
            f"{winner.name} ran by and won the race.",
        )
        story.ask(f"Why did {leader.name} stop?", kindness)
    elif winner is leader:
        story.say(
            f"{other.name} ran as fast as {other.he} could, but {leader.name} won the race.",
            f"{leader.He} did not stop and won the race.",
        )
    else:
        story.say(
            f"But {leader.he} got tired, and {winner.name} won the race.",
            f"But {leader.he} stopped to rest under a tree. "
            f"{winner.name} did not stop and won the race.",
        )
    story.turn()
    story.say(
        f'"You ran well, {loser.name}," said {winner.name}.',
        f'{loser.name} was not sad. "That was fun!" {loser.he} said.',
        f"{winner.name} shared the prize with {loser.name}. It was a big cake.",
    )
    story.ask("Who won the race?", winner.name)
    story.ask("Who was ahead at first?", leader.name)
    story.ask("Where did the race end?", f"{AT[goal]} the {goal}")
    close_story(story, rng.choice(("happy", "tired", "proud")))


PLANTS = (
    ("tall apple tree", "red apples"),
    ("strong pear tree", "sweet pears"),
    ("plum tree", "blue plums"),
    ("big berry bush", "dark berries"),
    ("long bean plant", "green beans"),
    ("cherry tree", "round cherries"),
)


def planting(story: Story) -> None:
    """A seed is planted, cared for, and gives something to share."""
    hero, friend, rng = story.hero, story.friend, story.rng
    plant, fruit = rng.choice(PLANTS)
    open_story(story)
    meet(story)
    story.turn()
    giver = rng.choice(("an old woman", "a farmer", "a little bird", "the teacher"))
    day = one_day(story)
    story.say(
        f"{day} {giver} gave {hero.name} a seed.",
        f"{day} {hero.name} got a seed from {giver}.",
    )
    planter, carer = rng.choice(((hero, friend), (friend, hero)))
    story.say(
        f"{planter.name} put it into the ground, and {carer.name} gave it water every day.",
        f"{planter.name} planted it behind the house. {carer.name} brought water each morning.",
    )
    story.say(
        "For a long time, nothing happened.",
        '"Will it ever grow?" they asked each other.',
        "They waited for many days.",
    )
    story.maybe("Then it rained, and after that the sun was warm.", "The days grew longer.")
    story.turn()
    story.say(
        f"Then a small green leaf came out, and by summer there was {with_article(plant)}.",
        "One morning, they saw something green. "
        f"It grew and grew until it was {with_article(plant)}.",
    )
    story.say(
        f"It was full of {fruit}, and they shared them with everybody.",
        f"In the autumn, they picked {fruit} and filled two baskets.",
    )
    story.ask(f"Who gave {hero.name} the seed?", giver)
    story.ask("Who brought the water?", carer.name)
    story.ask("Who planted the seed?", planter.name)
    story.ask("What grew from the seed?", with_article(plant))
    close_story(story, rng.choice(("happy", "proud")))


NOISES = ("tap, tap, tap", "knock, knock", "whoo, whoo", "scratch, scratch", "bump, bump")
FEARS = ("a monster", "a ghost", "a wolf", "a thief", "a dragon")
TRUTHS = (
    "a branch at the window", "a hungry cat", "the wind in the door", "an owl on the roof",
    "a mouse with a nut", "the rain in a bucket", "a lost puppy", "a loose board",
)  # fmt: skip


def night(story: Story) -> None:
    """A noise in the dark turns out to be something small."""
    hero, friend, rng = story.hero, story.friend, story.rng
    noise, guess, truth = rng.choice(NOISES), rng.choice(FEARS), rng.choice(TRUTHS)
    open_story(story)
    meet(story)
    story.turn()
    story.say(
        f"One night, {hero.name} could not sleep. There was a noise: {noise}!",
        f"In the middle of the night, {hero.name} woke up. {noise.capitalize()}! What was that?",
        f"One night, {friend.name} stayed at {hero.name}'s house. "
        f"Then they heard something: {noise}!",
    )
    story.say(
        f'"It must be {guess}," {hero.he} thought.',
        f"{hero.name} was afraid that it was {guess}.",
    )
    looker, other = rng.choice(((hero, friend), (friend, hero)))
    story.say(
        f'"I will go and look," said {looker.name}. {looker.He} took a lamp and went outside.',
        f"{looker.name} was brave, took a lamp and opened the door.",
        f"{other.name} hid under the blanket, but {looker.name} went to look.",
    )
    story.turn()
    story.say(
        f"It was not {guess} at all. It was only {truth}.",
        f'"Come and see!" called {looker.name}. It was only {truth}.',
        f"And what did {looker.he} see? It was {truth}!",
    )
    story.say(
        "They laughed until they had to hold their bellies.",
        f'"How silly we were!" said {other.name}.',
        f'"In the dark, small things seem big," said {looker.name}.',
    )
    story.ask("What made the noise?", truth)
    story.ask(f"What did {hero.name} think it was?", guess)
    story.ask("Who went to look?", looker.name)
    close_story(story, rng.choice(("happy", "calm", "tired")))


LURES = (
    "a yellow butterfly", "a red leaf in the wind", "a singing bird", "a bright balloon",
    "a little frog", "a shining beetle",
)  # fmt: skip
LANDMARKS = (
    "the old mill", "the broken bridge", "the white stone", "the tall pine tree", "the red barn",
    "the little church", "the deep well",
)  # fmt: skip


def lost_way(story: Story) -> None:
    """The hero follows something pretty too far, and is shown the way home."""
    hero, friend, rng = story.hero, story.friend, story.rng
    lure, place, landmark = rng.choice(LURES), rng.choice(OUTINGS), rng.choice(LANDMARKS)
    open_story(story)
    day = one_day(story)
    story.say(
        f"{day} {hero.name} saw {lure} and followed it to the {place}.",
        f"{day} {hero.he} followed {lure} all the way to the {place}.",
    )
    story.say(
        f"When {hero.he} looked around, {hero.he} did not know where {hero.he} was.",
        f"Soon {hero.he} was far from home, and every path looked the same.",
    )
    story.maybe(
        f'"Mother! Father!" called {hero.name}, but nobody answered.',
        f"{hero.name} sat down on a stone and cried a little.",
        "It was getting dark.",
    )
    story.turn()
    encounter(story)
    story.say(
        f'"Are you lost?" asked {friend.name}. "Yes," said {hero.name}. "I want to go home."',
        f'"I know the way," said {friend.name}. "Come with me."',
    )
    if rng.random() < 0.5:
        story.say(f"They walked past {landmark}, and then {hero.name} could see {hero.his} house.")
        story.ask("What did they walk past?", landmark)
    else:
        story.say(f'"We must turn at {landmark}," said {friend.name}. After that, it was not far.')
        story.ask("Where did they turn?", f"at {landmark}")
    story.turn()
    story.say(
        f"{hero.name}'s mother was waiting at the door and gave them both warm milk.",
        f'"There you are!" said {hero.name}\'s father. '
        f"He thanked {friend.name} and gave {friend.him} a cookie.",
    )
    story.ask(f"What did {hero.name} follow?", lure)
    story.ask("Who knew the way home?", friend.name)
    close_story(story, rng.choice(("happy", "safe", "glad")))


def trade(story: Story) -> None:
    """Two things change hands, and one of them may go back."""
    hero, friend, rng = story.hero, story.friend, story.rng
    first, second = (
        f"{color} {toy}"
        for color, toy in zip(rng.sample(COLORS, 2), rng.sample(TOYS, 2), strict=True)
    )
    open_story(story)
    meet(story)
    story.turn()
    story.say(
        f"{hero.name} had {with_article(first)}, and {friend.name} had {with_article(second)}.",
        f"{hero.name} owned {with_article(first)}. {friend.name} owned {with_article(second)}.",
    )
    day = one_day(story)
    story.say(
        f'{day} {hero.name} said, "I like your {second}." "And I like your {first}," '
        f"said {friend.name}.",
        f'{day} {hero.name} asked, "Shall we trade?" "What a good idea!" said {friend.name}.',
    )
    story.say(
        f"So {hero.name} gave {friend.name} the {first} and got the {second}.",
        f"So they traded: {friend.name} took the {first}, and {hero.name} took the {second}.",
    )
    owner = {first: friend, second: hero}
    if rng.random() < 0.5:
        back = rng.choice((first, second))
        giver = owner[back]
        taker = hero if giver is friend else friend
        story.say(
            f"The next day, {taker.name} missed the {back}. So {giver.name} gave it back.",
            f"But soon {taker.name} was sad without the {back}, and {giver.name} gave it back to "
            f"{taker.him}.",
        )
        owner[back] = taker
    story.turn()
    for thing in (first, second):
        story.ask(f"Who has the {thing} now?", owner[thing].name)
    story.ask(f"Who had the {first} at first?", hero.name)
    story.ask(f"Who had the {second} at first?", friend.name)
    story.say(
        "A thing can be traded, but a friend cannot.",
        "And they played with both things every day.",
        "Nobody was angry, because friends can share.",
    )
    close_story(story, rng.choice(("happy", "glad")))
