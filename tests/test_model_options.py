"""What a model is asked for and with in Python: what is wrong is an error of the project's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from every_target import every_target
from notices import Notices
from tiny_models import open_model

from pipelines.common import text_generation
from pipelines.common.errors import UsageError
from pipelines.common.ort import session
from pipelines.common.program.runner import Runner
from pipelines.common.targets import torch as torch_target
from pipelines.common.text_generation import ModelOptions
from pipelines.echo.pipeline import EchoModel


def test_paths_may_be_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    options = ModelOptions(model_path="x", tokenizer_path="~/t", custom_ops=["a"])  # type: ignore[arg-type]
    assert options.model_path == Path("x")
    assert options.tokenizer_path == Path("/home/me/t")
    assert options.custom_ops == (Path("a"),)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("model_path", "", "`model_path` is empty; expected a path"),
        ("model_path", 5, "`model_path` is 5; expected a path"),
        ("tokenizer_path", b"x", "`tokenizer_path` is b'x'; expected a path"),
        ("model_path", "https://x.org/m.gguf", "`model_path` is a URL, https://x.org/m.gguf;"),
        ("custom_ops", "native", "`custom_ops` is 'native'; expected a sequence of paths"),
        ("custom_ops", None, "`custom_ops` is None; expected a sequence of paths"),
        ("custom_ops", [3], "`custom_ops` is 3; expected a path"),
        ("encoding", None, "`encoding` is None; expected a name"),
        ("target", 1, "`target` is 1; expected a name"),
        ("threads", 0, "`threads` is 0; expected an integer, 1 or more"),
        ("threads", "2", "`threads` is '2'; expected an integer, 1 or more"),
        ("threads", True, "`threads` is True; expected an integer, 1 or more"),
        ("device", -1, "`device` is -1; expected an integer, 0 or more"),
        ("device", None, "`device` is None; expected an integer, 0 or more"),
    ],
)
def test_options_that_are_none(name: str, value: Any, expected: str) -> None:
    with pytest.raises(UsageError) as error:
        ModelOptions(**{name: value})
    assert str(error.value).startswith(expected)


@pytest.mark.parametrize(
    ("slots", "max_length", "expected"),
    [
        (0, 8, "`slots` is 0; expected 1 or more"),
        (-1, 8, "`slots` is -1; expected 1 or more"),
        (1, 0, "`max_length` is 0; expected 1 or more"),
    ],
)
def test_a_model_is_started_to_hold_something(slots: int, max_length: int, expected: str) -> None:
    model = open_model(None)
    with pytest.raises(UsageError, match=expected):
        model.start(slots=slots, max_length=max_length)


@pytest.fixture(scope="module", params=["echo", *every_target()])
def runner(request: pytest.FixtureRequest) -> Runner:
    """A runner of two slots of 8 tokens, with two in the first."""
    if request.param == "echo":
        made: Runner = EchoModel().start(slots=2, max_length=8)
    else:
        made = open_model(None, target=request.param).start(slots=2, max_length=8)
    made.prefill(0, [5, 6])
    return made


@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("prefill", (0, []), "there are no tokens to compute"),
        ("prefill", (2, [5]), "there is no slot 2; there are 2, from 0"),
        ("prefill", (-1, [5]), "there is no slot -1"),
        ("prefill", (0, [5, -1]), "there is no token -1"),
        ("prefill", (0, [5, 1 << 40]), "there is no token 1099511627776; the vocabulary has "),
        ("prefill", (0, [5] * 9), "9 tokens from position 0 do not fit into a slot for 8"),
        ("prefill", (0, [5], 8), "1 tokens from position 8 do not fit into a slot for 8"),
        ("prefill", (0, [5], -1), "1 tokens from position -1 do not fit"),
        ("decode", ([],), "there are no tokens to compute"),
        ("decode", ([5, 5, 5],), "3 tokens are given for 2 slots"),
        ("decode", ([-5],), "there is no token -5"),
        ("copy", (0, 2, 1), "there is no slot 2"),
        ("copy", (-1, 0, 1), "there is no slot -1"),
        ("copy", (0, 1, 3), "slot 0 holds 2 tokens; 3 cannot be copied"),
        ("copy", (0, 1, -1), "slot 0 holds 2 tokens; -1 cannot be copied"),
        ("score", ([],), "there are no tokens to compute"),
        ("score", ([5] * 9,), "9 tokens from position 0 do not fit"),
    ],
)
def test_calls_that_a_runner_cannot_answer(
    runner: Runner, call: str, arguments: tuple[Any, ...], expected: str
) -> None:
    with pytest.raises(UsageError) as error:
        getattr(runner, call)(*arguments)
    assert str(error.value).startswith(expected)


def test_a_full_slot_takes_no_token(runner: Runner) -> None:
    runner.prefill(0, [5] * 8)
    with pytest.raises(UsageError, match="a slot holds 8 tokens already"):
        runner.decode([5])
    runner.prefill(0, [5, 6])


def test_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_generation, "runnable_cores", lambda: 3)
    progress = Notices()
    for threads in (None, 1, 3):
        assert ModelOptions(threads=threads).threads_here(progress) == threads
    assert progress.messages == []
    assert ModelOptions(threads=10_000).threads_here(progress) == 3
    assert progress.messages == [
        "10000 threads were asked for, and this process may run on 3 cores; 3 compute"
    ]


@pytest.mark.parametrize(("usable", "expected"), [(1, 1), (3, 3), (4, 0)])
def test_threads_by_default_are_those_of_the_quota(
    monkeypatch: pytest.MonkeyPatch, usable: int, expected: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(session, "cores", lambda: usable)
    runner: Any = open_model(None).start(slots=1, max_length=8)
    assert runner._session.get_session_options().intra_op_num_threads == expected


def test_torch_keeps_within_the_quota_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(torch_target, "cores", lambda: 1)
    try:
        torch.set_num_threads(2)
        open_model(None, target="torch").start(slots=1, max_length=8)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
