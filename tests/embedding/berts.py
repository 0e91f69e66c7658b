"""BERTs as `transformers` has them, written as GGUF as llama.cpp's converter does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel

WORDS = ["the", "cat", "sat", "on", "a", "mat", "##s", "##ing", "dog", "run", "!", "cafe", "##t"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]


def tiny(seed: int = 0) -> BertModel:
    """A model with random weights, none of which makes no difference."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=32,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + ("LayerNorm.weight" in name))
    return model


def write(
    path: Path, model: BertModel, pieces: Sequence[str] = PIECES, pooling: int | None = 1
) -> Path:
    """Writes a model in float32."""
    config = model.config
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(gguf.PoolingType(pooling))
    writer.add_tokenizer_model("bert")
    writer.add_token_list([_written(piece) for piece in pieces])
    writer.add_token_type_count(config.type_vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if "position_ids" not in name and not name.startswith("pooler"):
            found = names.get_name(name, try_suffixes=(".weight", ".bias"))
            writer.add_tensor(found, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def vectors(model: BertModel, tokens: list[int]) -> NDArray:
    """What `transformers` makes of a text's tokens, ``[tokens, hidden_size]``."""
    with torch.inference_mode():
        return model(torch.tensor([tokens])).last_hidden_state[0].numpy()


def _written(piece: str) -> str:
    if piece.startswith("[") and piece.endswith("]"):
        return piece
    return piece[2:] if piece.startswith("##") else f"\N{LOWER ONE EIGHTH BLOCK}{piece}"
