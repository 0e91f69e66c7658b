"""The families that plugins bring, tiny and random, and their twins in `transformers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import transformers
from transformers import PreTrainedModel

from pipelines.testing import RandomWeights, Subject, twin_numbers


@dataclass(frozen=True)
class Family:
    """A family, in such sizes that none of what it adds makes no difference.

    Attributes:
        pipeline: Name of its pipeline.
        judge: Its class in `transformers`.
        config: The class of that one's config.
        sizes: Sizes and numbers that are not the usual ones.
        metadata: Keys that the config does not have.
        numbers: What stands for both in the judge's config, where that is not the same.
    """

    pipeline: str
    judge: Callable[..., PreTrainedModel]
    config: Callable[..., Any]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def subject(self) -> Subject:
        """The pipeline with random weights."""
        sizes = {"rope_base": 1e6, **self.sizes}
        return Subject(self.pipeline, random=RandomWeights(3, sizes, self.metadata))

    def twin(self) -> PreTrainedModel:
        """The judge, in the sizes of the subject."""
        return self.judge(self.config(**{**twin_numbers(self.subject), **self.numbers}))

    def named(self, pipeline: str, subject: Subject) -> Subject:
        """What another pipeline of the family is checked with."""
        return replace(subject, pipeline=pipeline, random=self.subject.random)


FAMILIES = (
    Family(
        "qwen2",
        transformers.Qwen2ForCausalLM,
        transformers.Qwen2Config,
        {"tied": True, "biases": ("attn_q", "attn_k", "attn_v")},
    ),
    Family(
        "qwen3",
        transformers.Qwen3ForCausalLM,
        transformers.Qwen3Config,
        {"head_dim": 32, "tied": True},  # heads * head_dim is not the hidden size
    ),
    Family("olmo2", transformers.Olmo2ForCausalLM, transformers.Olmo2Config),
    Family(
        "phi3",
        transformers.Phi3ForCausalLM,
        transformers.Phi3Config,
        {"window": 9},  # prompts are longer
        numbers={"sliding_window": 9},
    ),
    Family(
        "granite",
        transformers.GraniteForCausalLM,
        transformers.GraniteConfig,
        {"embedding_scale": 12.0, "residual_scale": 0.22, "logit_scale": 8.0, "tied": True},
        {"granite.attention.scale": 0.11},
        {
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.11,
            "logits_scaling": 8.0,
        },
    ),
)
