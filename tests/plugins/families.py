"""Tiny models of the families that plugins bring: made by `transformers`, written as GGUF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
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
    """

    pipeline: str
    architecture: str
    judge: Callable[..., PreTrainedModel]
    config: Callable[..., Any]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)
    permuted: bool = False

    @property
    def chooses(self) -> bool:
        """Whether its feed-forward networks are experts."""
        return "expert_count" in self.keys

    def make(self, seed: int = 3) -> PreTrainedModel:
        """A model with random weights; none is such that leaving it out would not be noticed."""
        torch.manual_seed(seed)
        model = self.judge(self.config(**{**SIZES, **self.numbers})).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name:
                    parameter.copy_(torch.rand_like(parameter) + 0.5)
                elif name.endswith("mlp.gate.weight"):  # a router: no choice is a close one
                    parameter.copy_(torch.randn_like(parameter) * 2)
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
            add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
            add(f"{self.architecture}.{key}", value)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list([*byte_alphabet(), "he", "<|im_end|>"])
        writer.add_token_types([1] * 257 + [3])
        writer.add_token_merges(["h e"])
        writer.add_eos_token_id(257)
        for name, values in self._tensors(model).items():
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
        for name, tensor in _apart(model.state_dict()).items():
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            values, part = tensor.numpy(), name.split(".")[-2]
            if self.permuted and part in heads:
                halves = values.reshape(heads[part], 2, -1, *values.shape[1:])
                values = halves.swapaxes(1, 2).reshape(values.shape)
            tensors[names.get_name(name, try_suffixes=[".weight", ".bias"])] = values
        return tensors


def _apart(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by name; those of experts as files have them, gate and up by themselves."""
    tensors = {}
    for name, tensor in state.items():
        if name.endswith("experts.gate_up_proj"):
            gate, up = tensor.chunk(2, dim=1)
            stem = name.removesuffix("gate_up_proj")
            tensors[f"{stem}gate_proj.weight"] = gate.contiguous()
            tensors[f"{stem}up_proj.weight"] = up.contiguous()
        elif name.endswith("experts.down_proj"):
            tensors[f"{name}.weight"] = tensor
        else:
            tensors[name] = tensor
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
    Family(
        "llama3",
        "llama",
        transformers.MixtralForCausalLM,
        transformers.MixtralConfig,
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
        {"expert_count": 4, "expert_used_count": 2},
        permuted=True,
    ),
    Family(
        "qwen3moe",
        "qwen3moe",
        transformers.Qwen3MoeForCausalLM,
        transformers.Qwen3MoeConfig,
        {
            "head_dim": 32,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "norm_topk_prob": True,
        },
        {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 32},
    ),
    Family(
        "qwen2moe",
        "qwen2moe",
        transformers.Qwen2MoeForCausalLM,
        transformers.Qwen2MoeConfig,
        {
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 64,
        },
        {
            "expert_count": 6,
            "expert_used_count": 3,
            "expert_feed_forward_length": 32,
            "expert_shared_feed_forward_length": 64,
        },
    ),
)
