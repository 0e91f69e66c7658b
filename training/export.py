"""Writes the trained model as the GGUF file that ships with the llama3 pipeline."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from training.documents import BEGIN, END, END_OF_TURN
from training.model import Dimensions, Transformer
from training.tokenizer import FILE as TOKENIZER_FILE
from training.tokenizer import SPECIAL_TOKENS
from training.train import CHECKPOINT

DESTINATION = Path(__file__).parents[1] / "pipelines/llama3/bundled/tiny-llama3-stories-f16.gguf"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    " + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    "{% endif %}"
)
# The order of rows in the query and key matrices is GGUF's already: see `model.Attention`.
LAYER_TENSORS = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.output",
    "ffn_norm": "feed_forward_norm",
    "ffn_gate": "feed_forward.gate",
    "ffn_up": "feed_forward.up",
    "ffn_down": "feed_forward.down",
}


def named_tensors(model: Transformer) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yields every tensor under its GGUF name: matrices in float16, norms in float32."""
    names = {"token_embd": "embedding", "output_norm": "norm"}
    for layer in range(model.dims.layers):
        for target, source in LAYER_TENSORS.items():
            names[f"blk.{layer}.{target}"] = f"blocks.{layer}.{source}"
    weights = model.state_dict()
    for target, source in names.items():
        weight = weights[f"{source}.weight"].numpy()
        yield f"{target}.weight", weight.astype(np.float16 if weight.ndim == 2 else np.float32)


def write_gguf(model: Transformer, tokenizer_file: Path, destination: Path) -> None:
    """Writes metadata, tokenizer and tensors, named and typed as llama.cpp's converter does."""
    dims = model.dims
    writer = gguf.GGUFWriter(destination, "llama")
    writer.add_type("model")
    writer.add_name("Tiny Llama 3 Stories")
    writer.add_basename("tiny-llama3-stories")
    writer.add_license("apache-2.0")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(dims.vocabulary)
    writer.add_context_length(dims.context)
    writer.add_embedding_length(dims.width)
    writer.add_block_count(dims.layers)
    writer.add_feed_forward_length(dims.feed_forward)
    writer.add_head_count(dims.heads)
    writer.add_head_count_kv(dims.kv_heads)
    writer.add_rope_freq_base(dims.rope_base)
    writer.add_rope_dimension_count(dims.head_width)
    writer.add_layer_norm_rms_eps(dims.norm_epsilon)
    _add_tokenizer(writer, tokenizer_file)
    for name, weight in named_tensors(model):
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer_file: Path) -> None:
    definition = json.loads(tokenizer_file.read_text())
    ids: dict[str, int] = dict(definition["model"]["vocab"])
    ids.update({token["content"]: token["id"] for token in definition["added_tokens"]})
    tokens = sorted(ids, key=ids.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [
            gguf.TokenType.CONTROL if token in SPECIAL_TOKENS else gguf.TokenType.NORMAL
            for token in tokens
        ]
    )
    writer.add_token_merges([" ".join(merge) for merge in definition["model"]["merges"]])
    writer.add_bos_token_id(ids[BEGIN])
    writer.add_eos_token_id(ids[END])
    writer.add_eot_token_id(ids[END_OF_TURN])
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def load_checkpoint(path: Path) -> Transformer:
    """Loads the weights of a training checkpoint."""
    model = Transformer(Dimensions())
    model.load_state_dict(torch.load(path)["model"])
    return model.eval()


def main() -> None:
    """Parses the command line and exports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER_FILE)
    parser.add_argument("--out", type=Path, default=DESTINATION)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.out.with_suffix(".partial")
    write_gguf(load_checkpoint(arguments.checkpoint), arguments.tokenizer, partial)
    partial.replace(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
