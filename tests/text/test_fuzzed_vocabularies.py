"""Valid vocabularies, changed at random: whatever comes out is read, or is an error in one line.

The seeds are fixed. What longer runs of the same kind have found is a test of its own beside them.
"""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sentence_models import metadata_of, pieces_of, trained
from vocabularies import Vocabulary, load_gguf, write_gguf

from pipelines.common.cache import Cache
from pipelines.common.errors import PipelineError
from pipelines.common.text.folder import tokenizer_of_folder
from pipelines.common.text.tokenizer import Tokenizer

TEXTS = [
    "",
    "Hello, world! 123 's\n\n  x",
    "\x00\ufffd👩‍👧 é ",
    "<|eot_id|>a</s>",
    "a" * 200,
    " " * 200,
]
TEXT_VALUES = ["", "a", " ", "Ġ", "\n", "\0", "\ud800", "x" * 3000, "a b", "#version", "</s>", "["]
VALUES = [None, True, -1, 0, 1, 7, 2**31, 2**63, 1.5, 1e308, [], {}, [[]], ["a"], *TEXT_VALUES]


@pytest.mark.parametrize("seed", range(4))
def test_tokenizer_json(seed: int, llama3: Vocabulary, tmp_path: Path) -> None:
    generator = random.Random(seed)
    document = json.loads(llama3.backend.to_str())
    outcomes = set()
    for _ in range(40):
        changed = copy.deepcopy(document)
        for _ in range(generator.choice((1, 1, 2, 4))):
            _change(generator, *generator.choice(list(_places(generator, changed))))
        (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
        outcomes.add(_uses(partial(tokenizer_of_folder, tmp_path, _check_line)))
    assert outcomes == {True, False}


@pytest.fixture(scope="module")
def vocabularies(llama3: Vocabulary) -> dict[str, dict[str, Any]]:
    return {"gpt2": llama3.metadata(), "llama": metadata_of(pieces_of(trained()))}


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("seed", range(4))
def test_gguf(
    seed: int, kind: str, vocabularies: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    generator = random.Random(seed)
    (tmp_path / "file").write_text("")
    no_cache = Cache(tmp_path / "file")
    outcomes = set()
    for number in range(25):
        changed: dict[str, Any] = copy.deepcopy(vocabularies[kind])
        for _ in range(generator.choice((1, 1, 2, 4))):
            _change_key(generator, changed)
        path = tmp_path / f"{number}.gguf"
        write_gguf(path, {key: value for key, value in changed.items() if value != []})
        content = bytearray(path.read_bytes())
        if number % 5 == 0:
            for _ in range(3):
                content[generator.randrange(len(content))] = generator.randrange(256)
            path.write_bytes(content)
        outcomes.add(_uses(partial(load_gguf, path, no_cache, _check_line)))
    assert outcomes == {True, False}


def _uses(load: Callable[[], Tokenizer]) -> bool:
    """Whether a tokenizer can be used; if not, it says so in one line."""
    try:
        tokenizer = load()
        tokenizer.describe()
        for text in TEXTS:
            for special in (True, False):
                ids = tokenizer.encode(text, special=special, bos=False)
                tokenizer.decode(ids, special=special)
    except PipelineError as error:
        _check_line(str(error))
        return False
    return True


def _check_line(message: str) -> None:
    assert "\n" not in message
    assert len(message) < 1000


def _places(generator: random.Random, root: Any) -> Iterator[tuple[Any, Any]]:
    """Containers and keys in them, of the long ones some."""
    waiting = [root]
    while waiting:
        outer = waiting.pop()
        keys = list(outer) if isinstance(outer, dict) else list(range(len(outer)))
        for key in generator.sample(keys, min(len(keys), 20)):
            yield outer, key
            if isinstance(outer[key], dict | list):
                waiting.append(outer[key])


def _change(generator: random.Random, outer: Any, key: Any) -> None:
    match generator.randrange(5):
        case 0:
            del outer[key]
        case 1 if isinstance(outer, list):
            outer.append(copy.deepcopy(outer[key]))
        case 1:
            outer[generator.choice(TEXT_VALUES)] = outer.pop(key)
        case 2 if isinstance(outer[key], str):
            outer[key] += generator.choice(TEXT_VALUES)
        case 2 if type(outer[key]) is int:
            outer[key] += generator.choice((-1, 1, 1000, 2**30))
        case _:
            outer[key] = copy.deepcopy(generator.choice(VALUES))


def _change_key(generator: random.Random, metadata: dict[str, Any]) -> None:
    key = generator.choice(list(metadata))
    value = metadata[key]
    if isinstance(value, list) and value and generator.randrange(4):
        for _ in range(generator.choice((1, 3, 20))):
            index = generator.randrange(len(value))
            other = generator.randrange(len(value))
            match generator.randrange(4):
                case 0:
                    value[index] = value[other]
                case 1:
                    value[index], value[other] = value[other], value[index]
                case 2 if isinstance(value[index], str):
                    value[index] = generator.choice([t for t in TEXT_VALUES if t != "\ud800"])
                case 2 if isinstance(value[index], float):
                    value[index] = generator.choice((0.0, -1.5, math.nan, math.inf, 3e38))
                case 2:
                    value[index] = generator.choice((-1, 0, 1, 3, 4, 6, 99))
                case _:
                    del value[index]
                    if not value:
                        return
    elif generator.randrange(2):
        del metadata[key]
    else:
        metadata[key] = generator.choice((-1, 10**6, 2**31 - 1, True, "", "gpt-2", [1, 2], ["a"]))
