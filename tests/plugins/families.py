"""The families that plugins bring, tiny and random, and their twins in `transformers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from transformers import PreTrainedModel

from pipelines.testing import RandomWeights, Subject, twin_numbers
from pipelines.testing.twin import Join


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
        norm_offset: What a converter adds to the weights of norms.
        in_pairs: Whether the judge rotates neighbours, as the file has them, and not halves.
        join: What the judge makes of the parts of a parameter, where that is not the usual.
    """

    pipeline: str
    judge: Callable[..., PreTrainedModel]
    config: Callable[..., Any]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    norm_offset: float = 0.0
    in_pairs: bool = False
    join: Join | None = None

    @cached_property
    def subject(self) -> Subject:
        """The pipeline with random weights."""
        sizes = {"rope_base": 1e6, **self.sizes}
        return Subject(self.pipeline, random=RandomWeights(3, sizes, self.metadata))

    def twin(self) -> PreTrainedModel:
        """The judge, in the sizes of the subject."""
        return self.judge(self.config(**{**twin_numbers(self.subject), **self.numbers}))

    def as_twin_has(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values of a tensor of the file in the judge."""
        if self.in_pairs and name.endswith(("attn_q.weight", "attn_k.weight")):
            halves = self.subject.open().config.head_dim // 2
            return (
                values.reshape(-1, 2, halves, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
            )
        return values - np.float32(self.norm_offset) if "norm" in name else values

    def named(self, pipeline: str, subject: Subject) -> Subject:
        """What another pipeline of the family is checked with."""
        return replace(subject, pipeline=pipeline, random=self.subject.random)


def _as_gpt_oss_has(parameter: str, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Gates and what they multiply row by row, and the matrices of experts turned."""
    rows = (
        parts[0]
        if len(parts) == 1
        else np.stack(parts, 2).reshape(len(parts[0]), -1, *parts[0].shape[2:])
    )
    return rows.swapaxes(1, 2) if parameter.endswith("_proj") else rows


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
    Family(
        "gemma2",
        transformers.Gemma2ForCausalLM,
        transformers.Gemma2Config,
        {"head_dim": 32, "window": 7, "attention_cap": 2.0, "logit_cap": 5.0, "tied": True},
        numbers={
            "query_pre_attn_scalar": 32,
            "sliding_window": 7,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
        },
        norm_offset=1.0,
    ),
    Family(
        "gemma3",
        transformers.Gemma3ForCausalLM,
        transformers.Gemma3TextConfig,
        {"head_dim": 32, "layers": 3, "window": 7, "period": 2, "tied": True},
        {"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 4.0},
        {
            "query_pre_attn_scalar": 32,
            "sliding_window": 7,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
        norm_offset=1.0,
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
    Family(
        "commandr",
        transformers.CohereForCausalLM,
        transformers.CohereConfig,
        {"logit_scale": 0.25, "tied": True},
        numbers={"logit_scale": 0.25, "layer_norm_eps": 1e-5},
        in_pairs=True,
    ),
    Family(
        "llama3",  # Mixtral's files name Llama's architecture
        transformers.MixtralForCausalLM,
        transformers.MixtralConfig,
        {"experts": 4, "experts_used": 2},
        numbers={"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
    Family(
        "qwen3moe",
        transformers.Qwen3MoeForCausalLM,
        transformers.Qwen3MoeConfig,
        {"head_dim": 32, "experts": 6, "experts_used": 2, "expert_width": 32},
        numbers={
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "norm_topk_prob": True,
        },
    ),
    Family(
        "qwen2moe",
        transformers.Qwen2MoeForCausalLM,
        transformers.Qwen2MoeConfig,
        {
            "experts": 6,
            "experts_used": 3,
            "expert_width": 32,
            "shared_width": 64,
            "biases": ("attn_q", "attn_k", "attn_v"),
        },
        numbers={
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 64,
        },
    ),
    Family(
        "gptoss",
        transformers.GptOssForCausalLM,
        transformers.GptOssConfig,
        {
            "head_dim": 32,
            "rope_base": 150000.0,
            "experts": 6,
            "experts_used": 2,
            "window": 7,
            "biases": (
                *("attn_q", "attn_k", "attn_v", "attn_output"),
                *("ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"),
            ),
        },
        {
            "gpt-oss.rope.scaling.type": "yarn",
            "gpt-oss.rope.scaling.factor": 32.0,
            "gpt-oss.rope.scaling.original_context_length": 4096,
        },
        {
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "sliding_window": 7,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 150000.0,
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "original_max_position_embeddings": 4096,
                "truncate": False,
            },
        },
        join=_as_gpt_oss_has,
    ),
)
