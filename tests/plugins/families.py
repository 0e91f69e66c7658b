"""Tiny models of the families that plugins bring: made by `transformers`, written as GGUF."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGUFWriter
from transformers import PreTrainedModel

from pipelines.common.text.tokenizer import byte_alphabet

SIZES: Mapping[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "pad_token_id": 0,
}
CONTEXT = 128


@dataclass(frozen=True)
class Family:
    """A family, and how its files are written.

    Attributes:
        pipeline: Name of its pipeline.
        architecture: What a file calls it.
        judge: Its class in `transformers`.
        config: The class of that one's config.
        numbers: Numbers of the config that are not those of `SIZES`.
        keys: Metadata keys that stand for them.
        permuted: Whether the converter brings neighbours into pairs.
        norm_offset: What the converter adds to the weights of norms.
        tensors: Those that the converter makes of numbers of the config.
        title: What tests call it, where several are run by one pipeline.
    """

    pipeline: str
    architecture: str
    judge: Callable[..., PreTrainedModel]
    config: Callable[..., Any]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)
    permuted: bool = False
    norm_offset: float = 0.0
    tensors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    title: str = ""

    def make(self, seed: int = 3) -> PreTrainedModel:
        """A model with random weights; none is such that leaving it out would not be noticed."""
        torch.manual_seed(seed)
        model = self.judge(self.config(**{**SIZES, **self.numbers})).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name:
                    parameter.copy_(torch.rand_like(parameter) + 0.5)
                else:
                    parameter.copy_(torch.randn_like(parameter) * 0.2)
        return model

    def write(self, path: Path, model: PreTrainedModel) -> Path:
        """Writes a model as llama.cpp's converter does, in float32."""
        config = model.config
        head_dim = getattr(config, "head_dim", None)
        head_dim = head_dim or config.hidden_size // config.num_attention_heads
        writer = GGUFWriter(path, self.architecture)
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(1e6)
        for key, value in self.keys.items():
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
            add[type(value)](f"{self.architecture}.{key}", value)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list([*byte_alphabet(), "he", "<|im_end|>"])
        writer.add_token_types([1] * 257 + [3])
        writer.add_token_merges(["h e"])
        writer.add_eos_token_id(257)
        factors = {name: np.array(values, np.float32) for name, values in self.tensors.items()}
        for name, values in (self._tensors(model) | factors).items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _tensors(self, model: PreTrainedModel) -> dict[str, Any]:
        config = model.config
        (architecture,) = (
            number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == self.architecture
        )
        names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        tensors = {}
        for name, tensor in model.state_dict().items():
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            values, part = tensor.numpy(), name.split(".")[-2]
            if self.permuted and part in heads:
                halves = values.reshape(heads[part], 2, -1, *values.shape[1:])
                values = halves.swapaxes(1, 2).reshape(values.shape)
            if "norm" in part:
                values = values + np.float32(self.norm_offset)
            tensors[names.get_name(name, try_suffixes=[".weight", ".bias"])] = values
        return tensors


FAMILIES = (
    Family(
        "qwen2",
        "qwen2",
        transformers.Qwen2ForCausalLM,
        transformers.Qwen2Config,
        {"tie_word_embeddings": True},
    ),
    Family(
        "qwen3",
        "qwen3",
        transformers.Qwen3ForCausalLM,
        transformers.Qwen3Config,
        # heads * head_dim is not the hidden size
        {"head_dim": 32, "tie_word_embeddings": True},
    ),
    Family(
        "gemma2",
        "gemma2",
        transformers.Gemma2ForCausalLM,
        transformers.Gemma2Config,
        {
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 7,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
            "tie_word_embeddings": True,
        },
        {
            "attention.sliding_window": 7,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
        },
        norm_offset=1.0,
    ),
    Family(
        "gemma3",
        "gemma3",
        transformers.Gemma3ForCausalLM,
        transformers.Gemma3TextConfig,
        {
            "num_hidden_layers": 3,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 7,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
            "tie_word_embeddings": True,
        },
        {
            "attention.sliding_window": 7,
            "attention.sliding_window_pattern": 2,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 4.0,
        },
        norm_offset=1.0,
    ),
    Family(
        "phi3",
        "phi3",
        transformers.Phi3ForCausalLM,
        transformers.Phi3Config,
        # As Phi-4-mini: a part of each head is rotated, and by other factors in long sequences.
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e6,
                "partial_rotary_factor": 0.5,
                "original_max_position_embeddings": 32,
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [1.0, 1.5, 3.0, 8.0],
            },
            "original_max_position_embeddings": 32,
            "tie_word_embeddings": True,
        },
        {
            "rope.dimension_count": 8,
            "rope.scaling.original_context_length": 32,
            "rope.scaling.attn_factor": (1 + math.log(4) / math.log(32)) ** 0.5,
        },
        tensors={
            "rope_factors_short.weight": [1.0, 1.1, 1.2, 1.3],
            "rope_factors_long.weight": [1.0, 1.5, 3.0, 8.0],
        },
        title="phi4",
    ),
    Family("olmo2", "olmo2", transformers.Olmo2ForCausalLM, transformers.Olmo2Config),
    Family(
        "phi3",
        "phi3",
        transformers.Phi3ForCausalLM,
        transformers.Phi3Config,
        {"sliding_window": 9},  # prompts are longer
        {"attention.sliding_window": 9},
    ),
    Family(
        "granite",
        "granite",
        transformers.GraniteForCausalLM,
        transformers.GraniteConfig,
        {
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.11,
            "logits_scaling": 8.0,
            "tie_word_embeddings": True,
        },
        {
            "embedding_scale": 12.0,
            "residual_scale": 0.22,
            "attention.scale": 0.11,
            "logit_scale": 8.0,
        },
        permuted=True,
    ),
)
