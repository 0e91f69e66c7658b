"""Models lowered for Core ML against the torch reference.

Where the provider is not, the CPU provider runs the very same graphs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from notices import Notices
from numpy.typing import NDArray
from tiny_models import Type, open_model, write_gguf
from transformers import LlamaConfig, LlamaForCausalLM

from pipelines.common.cache import Cache
from pipelines.common.errors import TargetError
from pipelines.common.importing import import_from
from pipelines.common.ort.session import CPU, Provider
from pipelines.common.program.runner import Runner
from pipelines.common.progress import Progress
from pipelines.common.targets.coreml import COREML, CoreMLTarget, weights
from pipelines.common.targets.coreml.runner import CoreMLRunner

HERE = CoreMLTarget().availability().here

VOCABULARY = 16_400
"""Wide enough that the logits come in two parts."""

MAX_LENGTH = 300


@pytest.fixture(params=[CPU, COREML] if HERE else [CPU], ids=lambda provider: provider.name)
def provider(request: pytest.FixtureRequest) -> Provider:
    found: Provider = request.param
    return found


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": 500000.0, "rope_type": "default"},
        initializer_range=0.15,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data.uniform_(0.5, 1.5)
    return write_gguf(tmp_path_factory.mktemp("model") / "model.gguf", model, Type.F16)


def start(
    path: Path | None,
    provider: Provider,
    encoding: str = "auto",
    *,
    slots: int = 1,
    progress: Progress | None = None,
) -> CoreMLRunner:
    model = open_model(path, target="coreml", encoding=encoding, progress=progress)
    runner = CoreMLTarget(provider).start(model.deployment(slots=slots, max_length=MAX_LENGTH))
    assert isinstance(runner, CoreMLRunner)
    return runner


@functools.cache
def reference(path: Path | None, encoding: str = "auto") -> Runner:
    model = open_model(path, target="torch", encoding=encoding)
    return model.start(slots=1, max_length=MAX_LENGTH)


def tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(VOCABULARY, size=count).tolist()


def assert_close(logits: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Apart by what float16 activations explain."""
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() < 0.01 * np.abs(expected).max()
    assert logits.argmax() == expected.argmax()


def held(runner: CoreMLRunner, slot: int) -> list[NDArray[np.float16]]:
    """The halves of a slot's state."""
    return [*runner._states[slot][0].values()]


@pytest.mark.parametrize("encoding", ["auto", "q4_0"])
def test_logits_are_those_of_the_reference(
    model_file: Path, provider: Provider, encoding: str
) -> None:
    runner, judge = start(model_file, provider, encoding), reference(model_file, encoding)
    prompt, continuation = tokens(20), tokens(4, seed=1)
    assert_close(runner.prefill(0, prompt), judge.prefill(0, prompt))
    for token in continuation:
        assert_close(runner.decode([token])[0], judge.decode([token])[0])
    assert_close(runner.prefill(0, continuation, 5), judge.prefill(0, continuation, 5))


@pytest.mark.parametrize("length", [1, 5, 16, 17, 50, 140])
def test_padding_of_a_prompt_changes_nothing(
    model_file: Path, provider: Provider, length: int
) -> None:
    runner, judge = start(model_file, provider), reference(model_file)
    prompt = tokens(length)
    assert_close(runner.prefill(0, prompt), judge.prefill(0, prompt))
    for half in held(runner, 0):
        assert half[:, :, :length].any(axis=(1, 3)).all()
        assert not half[:, :, length:].any()
    token = tokens(1, seed=1)
    assert_close(runner.decode(token)[0], judge.decode(token)[0])


def test_a_slot_can_be_filled_to_its_end(model_file: Path, provider: Provider) -> None:
    """The last call's padding is beyond the room that there is."""
    runner, judge = start(model_file, provider), reference(model_file)
    prompt = tokens(MAX_LENGTH - 1)
    assert_close(runner.prefill(0, prompt), judge.prefill(0, prompt))
    assert_close(runner.decode([7])[0], judge.decode([7])[0])


def test_score_gives_the_logits_after_every_token(model_file: Path, provider: Provider) -> None:
    prompt = tokens(6)
    scores = start(model_file, provider).score(prompt)
    for logits, expected in zip(scores, reference(model_file).score(prompt), strict=True):
        assert_close(logits, expected)


def test_slots_do_not_touch_each_other(model_file: Path, provider: Provider) -> None:
    prompts = [tokens(length, seed=length) for length in (3, 20, 9)]
    together = start(model_file, provider, slots=3)
    filled = [together.prefill(slot, prompt) for slot, prompt in enumerate(prompts)]
    steps = [together.decode([5, 6, 7]).copy(), together.decode([8, 9]).copy()]
    alone = start(model_file, provider)
    for slot, prompt in enumerate(prompts):
        np.testing.assert_array_equal(alone.prefill(0, prompt), filled[slot])
        np.testing.assert_array_equal(alone.decode([5 + slot])[0], steps[0][slot])
        if slot < 2:
            np.testing.assert_array_equal(alone.decode([8 + slot])[0], steps[1][slot])


def test_copied_beginning_is_continued(model_file: Path, provider: Provider) -> None:
    prompt = tokens(40)
    runner = start(model_file, provider, slots=2)
    runner.prefill(0, prompt[:30])
    runner.prefill(1, tokens(50, seed=1))
    runner.copy(0, 1, 24)
    logits = runner.prefill(1, prompt[24:], 24)
    assert_close(logits, reference(model_file).prefill(0, prompt))


def test_what_a_sequence_leaves_does_not_spoil_the_next(
    model_file: Path, provider: Provider
) -> None:
    runner = start(model_file, provider)
    prompt = tokens(10)
    expected = runner.prefill(0, prompt)
    for half in held(runner, 0):
        half[:, :, 4:] = np.inf  # an overflow of float16
    np.testing.assert_array_equal(runner.prefill(0, prompt), expected)


def test_user_is_told_that_weights_become_float16(model_file: Path, provider: Provider) -> None:
    progress = Notices()
    start(model_file, provider, "q4_0", progress=progress)
    (notice,) = [message for message in progress.messages if "float16" in message]
    assert "q4_0" in notice
    assert "MiB" in notice
    progress = Notices()
    start(model_file, provider, "auto", progress=progress)
    assert not [message for message in progress.messages if "float16" in message]


def test_weights_are_written_once(
    model_file: Path, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the cache that tests share, others come and go.
    monkeypatch.setenv("RUN_PIPELINE_CACHE", str(tmp_path / "cache"))

    def written() -> set[str]:
        return {entry.key for entry in Cache.default().entries() if entry.kind == "weights"}

    start(model_file, provider, "auto")
    before = written()
    start(model_file, provider, "q4_0")
    after = written()
    for encoding in ("auto", "q4_0"):
        start(model_file, provider, encoding, slots=2)
    assert before <= written() == after


@pytest.mark.parametrize("what", ["the weights", "a module", "nothing"])
def test_weights_are_made_again_when_something_is_wrong_with_them(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("RUN_PIPELINE_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "layouts.py"
    source.write_text("A = 1\n")
    import_from(source)
    deployment = open_model(model_file, target="coreml").deployment(slots=1, max_length=16)
    graph = CoreMLTarget(CPU).lower(deployment)
    file = weights.stored(deployment, graph) / weights.WEIGHTS
    content, inode = file.read_bytes(), file.stat().st_ino
    assert weights.stored(deployment, graph) == file.parent
    assert file.stat().st_ino == inode
    if what == "the weights":
        file.write_bytes(bytes(len(content)))
    if what == "a module":
        source.write_text("A = 2\n")
    with file.open("rb"):  # so that its inode is not given to another
        assert weights.stored(deployment, graph) == file.parent
        assert (file.stat().st_ino == inode) is (what == "nothing")
    assert file.read_bytes() == content


def test_sequence_that_no_state_has_room_for(model_file: Path) -> None:
    model = open_model(model_file, target="coreml")
    with pytest.raises(TargetError, match=r"20000 tokens .* at most 16384"):
        CoreMLTarget(CPU).start(model.deployment(slots=1, max_length=20_000))


@pytest.mark.skipif(HERE, reason="it can run here")
def test_without_the_provider_nothing_is_started(model_file: Path) -> None:
    model = open_model(model_file, target="coreml")
    with pytest.raises(TargetError, match="CoreMLExecutionProvider"):
        model.start(slots=1, max_length=64)


def greedy(runner: Runner, prompt: Sequence[int], count: int) -> list[int]:
    text = [int(runner.prefill(0, prompt).argmax())]
    while len(text) < count:
        text.append(int(runner.decode(text[-1:])[0].argmax()))
    return text


def test_golden_text_of_the_bundled_model(provider: Provider) -> None:
    """The reference's text, which is that of `transformers`."""
    prompt = open_model(None).tokenizer.encode("I believe the meaning of life is")
    expected = greedy(reference(None), prompt, 40)
    assert greedy(start(None, provider), prompt, 40) == expected
