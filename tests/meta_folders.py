"""Folders as Meta gives them out, made of models of `transformers`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

NAMES = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "layers",
}
BY_COLUMNS = ("wo.weight", "w2.weight")


def metas(model: transformers.LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """Its tensors as Meta has them: by other names, and with neighbours in pairs."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            half, width = model.config.head_dim // 2, model.config.hidden_size
            tensor = tensor.view(-1, 2, half, width).transpose(1, 2).reshape(tensor.shape)
        for theirs, metas in NAMES.items():
            name = name.replace(theirs, metas)
        tensors[name] = tensor.contiguous()
    tensors["rope.freqs"] = torch.ones(model.config.head_dim // 2)
    return tensors


def parts_of(tensors: dict[str, torch.Tensor], count: int, rows: bool) -> list[dict[str, Any]]:
    """What each of several processes had."""
    parts: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, tensor in tensors.items():
        axis = 1 if name.endswith(BY_COLUMNS) else 0
        if name.startswith("tok_embeddings"):
            axis = 0 if rows else 1
        pieces = tensor.chunk(count, axis) if tensor.ndim > 1 else [tensor] * count
        for part, piece in zip(parts, pieces, strict=True):
            part[name] = piece.clone()
    return parts


def write(folder: Path, parts: list[dict[str, Any]], params: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(parts):
        torch.save(part, folder / f"consolidated.{number:02}.pth")
    (folder / "params.json").write_text(json.dumps(params))
    return folder
