"""Multiple choice by likelihood: which ending of a text does a model expect most?

Judged as lm-evaluation-harness does it for HellaSwag:
https://github.com/EleutherAI/lm-evaluation-harness/tree/main/lm_eval/tasks/hellaswag
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.common.engine.logprobs import log_softmax
from pipelines.common.errors import UsageError
from pipelines.common.measure.perplexity import Mean
from pipelines.common.program.runner import Row, Runner
from pipelines.common.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Question:
    """A text, and several ways in which it may go on.

    Attributes:
        context: The text.
        endings: The ways; each follows the context after a space.
        label: The place of the right one, from 0.
    """

    context: str
    endings: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class TokenizedQuestion:
    """A question in tokens.

    Attributes:
        question: It in text.
        context: The tokens that begin the context and each of its endings alike, at least one.
        endings: Those that follow them, at least one each.
    """

    question: Question
    context: Sequence[int]
    endings: Sequence[Sequence[int]]

    @property
    def length(self) -> int:
        """Tokens of the context with its longest ending."""
        return len(self.context) + max(map(len, self.endings))


def tokenized(question: Question, tokenizer: Tokenizer) -> TokenizedQuestion:
    """A question in a model's tokens; control tokens that it spells are text.

    Raises:
        UsageError: An ending adds no token to the context, or none of the context's is left as it
            is.
        PromptError: It is no valid Unicode.
    """
    context = tokenizer.encode(question.context, special=False)
    whole = [
        tokenizer.encode(f"{question.context} {ending}", special=False)
        for ending in question.endings
    ]
    shared = len(os.path.commonprefix([context, *whole]))  # noqa: RUF071 (of lists)
    if not 0 < shared < min(map(len, whole)):
        raise UsageError("the endings have no tokens of their own behind those of the context")
    return TokenizedQuestion(question, context[:shared], [each[shared:] for each in whole])


def log_likelihoods(asked: TokenizedQuestion, runner: Runner) -> list[float]:
    """The logarithm of each ending's probability after the context, which is computed once.

    Args:
        asked: The question.
        runner: The model; what its first slot held is forgotten.
    """
    *before, last = asked.context
    if before:
        runner.prefill(0, before)
    found = []
    for ending in asked.endings:
        part = [last, *ending[:-1]]
        (logits,) = runner.forward([Row(0, part, len(before), range(len(part)))])
        scores = [log_softmax(row)[token] for row, token in zip(logits, ending, strict=True)]
        found.append(float(sum(scores)))
    return found


@dataclass
class Accuracy:
    """What the questions that were asked so far have come to.

    Attributes:
        right: Whether the right ending was the likeliest, of each.
        right_normalized: The same, with the logarithm of an ending's probability divided by its
            characters, so that short ones have no advantage.
    """

    right: Mean = field(default_factory=Mean)
    right_normalized: Mean = field(default_factory=Mean)

    def ask(self, asked: TokenizedQuestion, runner: Runner) -> None:
        """Asks one more; see `log_likelihoods`."""
        found = np.array(log_likelihoods(asked, runner))
        characters = np.array([len(ending) for ending in asked.question.endings])
        for mean, scores in ((self.right, found), (self.right_normalized, found / characters)):
            mean.add(np.array([float(scores.argmax() == asked.question.label)]))
