"""Runners whose tokens depend on all that a slot holds, and what an engine makes of them."""

from __future__ import annotations

import zlib

import numpy as np

from pipelines.common.engine.engine import Engine
from pipelines.common.engine.engine import run as run_all
from pipelines.common.engine.request import Request
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.program.runner import Candidates
from pipelines.echo.pipeline import END_OF_TEXT, VOCAB_SIZE, EchoModel

TOKENIZER = EchoModel().tokenizer
MAX_LENGTH = 64


def following(tokens):
    """What the runner expects after `tokens`; in one of 20 cases the end."""
    number = zlib.crc32(bytes(tokens))
    return END_OF_TEXT if number % 20 == 0 else number % 128


class HashingRunner:
    """Holds tokens, checks that what it is asked makes sense, notes it."""

    max_length = MAX_LENGTH

    def __init__(self, slots):
        self.slots = slots
        self.held = [[] for _ in range(slots)]
        self.calls = []

    def prefill(self, slot, tokens, start=0):
        assert tokens
        assert start <= len(self.held[slot])
        self.calls.append(("prefill", slot, bytes(tokens), start))
        self.held[slot][start:] = tokens
        return self.logits(slot)

    def decode(self, tokens):
        assert 0 < len(tokens) <= self.slots
        self.calls.append(("decode", list(tokens)))
        for held, token in zip(self.held, tokens, strict=False):
            assert held
            held.append(token)
        return np.stack([self.logits(slot) for slot in range(len(tokens))])

    def copy(self, source, target, length):
        assert source != target
        assert 0 < length <= len(self.held[source])
        self.calls.append(("copy", source, target, length))
        self.held[target] = self.held[source][:length]

    def logits(self, slot):
        assert len(self.held[slot]) < self.max_length  # there has to be room for what is sampled
        logits = np.zeros(VOCAB_SIZE, np.float32)
        logits[following(self.held[slot])] = 1
        return logits

    def named(self, name):
        return [call[1:] for call in self.calls if call[0] == name]


class SuccessorRunner(HashingRunner):
    """Expects the successor of the last token."""

    def logits(self, slot):
        return np.eye(VOCAB_SIZE, dtype=np.float32)[self.held[slot][-1] + 1]


class DamagedRunner(SuccessorRunner):
    """Computes no numbers for what has an ``x`` in it."""

    def logits(self, slot):
        logits = super().logits(slot)
        return logits * np.nan if ord("x") in self.held[slot] else logits


class TyingRunner(HashingRunner):
    """Has few different logits, so that many tokens are equally likely."""

    def logits(self, slot):
        generator = np.random.default_rng(following(self.held[slot]))
        return generator.integers(0, 30, VOCAB_SIZE).astype(np.float32)


class ShortlistingRunner(TyingRunner):
    """Tells the eight most likely tokens."""

    batch_invariant = True
    candidates = 8

    def advance(self, tokens):
        self.last = self.decode(tokens)
        self.calls[-1] = ("advance", list(tokens))
        best = np.argsort(-self.last, kind="stable")[:, : self.candidates]
        return Candidates(best, np.take_along_axis(self.last, best, -1))

    def forward(self, rows):
        raise AssertionError(f"nobody asks for {rows}")

    def score(self, tokens):
        raise AssertionError(f"nobody asks for the score of {tokens}")

    def last_logits(self):
        self.calls.append(("last_logits",))
        return self.last


class DistinctRunner(ShortlistingRunner):
    """No two tokens are equally likely, and the end is the least likely."""

    def logits(self, slot):
        generator = np.random.default_rng(following(self.held[slot]))
        logits = generator.permutation(VOCAB_SIZE).astype(np.float32)
        logits[END_OF_TEXT] = -1
        return logits


class UndecidedRunner(ShortlistingRunner):
    """All tokens are equally likely."""

    def logits(self, slot):
        return np.zeros_like(super().logits(slot))


def make_request(prompt, new_tokens, **sampling):
    prompt = list(prompt)
    return Request(prompt, min(MAX_LENGTH, len(prompt) + new_tokens), SamplingParams(**sampling))


def texts_of(events):
    """The text of each sequence, in the order of their ends."""
    texts, ended = {}, {}
    for event in events:
        assert event.sequence not in ended
        texts[event.sequence] = texts.get(event.sequence, "") + event.text
        if event.sequence.finish_reason is not None:
            ended[event.sequence] = texts[event.sequence]
    return ended


def run(runner, requests):
    """The text of each sequence, in the order of their ends."""
    return texts_of(run_all(Engine(runner, TOKENIZER), requests))
