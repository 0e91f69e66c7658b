"""Writes GGUF files of Llama 3's true shapes with random weights, to measure speed and memory on.

    python -m benchmarks.random_gguf {tiny,1b,8b} OUT.gguf [--encoding q4_0|q4_k_m|...] [--seed N]

Everything but the values of the weights and the words of the vocabulary is as llama.cpp writes it:
metadata, tensor names and order, the mix of encodings of a "Q4_K_M" file, a byte-level BPE of full
size with Llama 3's special tokens. The text that such a model generates means nothing.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFWriter, LlamaFileType, TokenType
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from benchmarks.mixtures import MIXTURES, Mixture
from pipelines.common.encodings import GGML_TYPES
from pipelines.common.encodings.convert import encoded

_ALIGNMENT = 32
_SPECIAL_TOKENS = 256
_CONTEXT_LENGTH = 131072
_ROPE_BASE = 500000.0
_LONGEST_TOKEN = 6
"""Characters; with it the full vocabulary has 283,530 merges, close to Llama 3's 280,147."""
_POOL_BLOCKS = 65521
"""Random blocks that all tensors are cut from; a prime, so that no two rows start alike."""


@dataclass(frozen=True)
class Shape:
    """Dimensions of a Llama 3 model.

    Attributes:
        hidden: Width of the residual stream.
        layers: Number of blocks.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of a head.
        inner: Width of the feed-forward part.
        vocabulary: Number of tokens, the special ones included.
        tied: Whether the embedding is the output matrix as well.
        rope_factor: By how much long wavelengths of RoPE are stretched.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    tied: bool
    rope_factor: float


SHAPES = {
    "tiny": Shape(256, 2, 4, 2, 64, 512, 1024, tied=True, rope_factor=32),
    "1b": Shape(2048, 16, 32, 8, 64, 8192, 128256, tied=True, rope_factor=32),
    "8b": Shape(4096, 32, 32, 8, 128, 14336, 128256, tied=False, rope_factor=8),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor to write: name, shape with the outermost dimension first, encoding."""

    name: str
    shape: tuple[int, ...]
    type: Type

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return math.prod(self.shape) // GGML_QUANT_SIZES[self.type][0]

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return self.blocks * GGML_QUANT_SIZES[self.type][1]


def write_random_gguf(path: Path, shape: Shape, encoding: str = "q4_0", seed: int = 0) -> None:
    """Writes a model file, a tensor at a time; 8B takes some seconds and little memory.

    Args:
        path: Where to write it.
        shape: The model's dimensions.
        encoding: A key of `MIXTURES`.
        seed: Of the weights and the vocabulary.
    """
    mixture = MIXTURES[encoding]
    tensors = list(_tensors(shape, mixture))
    writer = GGUFWriter(path, "llama")
    _add_metadata(writer, path.stem, shape, mixture.file_type)
    _add_tokenizer(writer, shape, seed)
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, tensor.type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()

    generator = np.random.default_rng(seed)
    most: dict[Type, int] = {}
    for tensor in tensors:
        most[tensor.type] = max(most.get(tensor.type, 0), tensor.blocks)
    std = 1 / math.sqrt(shape.hidden)
    pools = {
        type_: _random_blocks(generator, type_, min(blocks, _POOL_BLOCKS), std)
        for type_, blocks in most.items()
    }
    with path.open("ab") as file:
        for tensor in tensors:
            file.write(bytes(-file.tell() % _ALIGNMENT))
            if tensor.name == "rope_freqs.weight":
                file.write(rope_factors(shape).tobytes())
            elif len(tensor.shape) == 1:
                file.write(np.ones(tensor.shape, np.float32).tobytes())
            else:
                pool = pools[tensor.type]
                start = int(generator.integers(len(pool)))
                _write_cyclic(file, np.roll(pool, start, axis=0), tensor.nbytes)
        file.write(bytes(-file.tell() % _ALIGNMENT))


def rope_factors(shape: Shape) -> NDArray[np.float32]:
    """What Llama 3.1 divides the frequencies of RoPE by, shape ``[head_dim / 2]``.

    Wavelengths up to a quarter of the original context of 8192 stay, those beyond it are stretched
    by the whole factor; in between it is interpolated.
    """
    wavelengths = 2 * np.pi * _ROPE_BASE ** (np.arange(0, shape.head_dim, 2) / shape.head_dim)
    smooth = np.clip((8192 / wavelengths - 1) / (4 - 1), 0, 1)
    return (1 / (smooth + (1 - smooth) / shape.rope_factor)).astype(np.float32)


def _tensors(shape: Shape, mixture: Mixture) -> Iterator[Tensor]:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    embedding = mixture.head if shape.tied else mixture.most
    yield Tensor("rope_freqs.weight", (shape.head_dim // 2,), Type.F32)
    yield Tensor("token_embd.weight", (shape.vocabulary, shape.hidden), embedding)
    for layer in range(shape.layers):

        def tensor(part: str, *sizes: int, layer: int = layer) -> Tensor:
            matrix = mixture.of_layer(part, layer, shape.layers)
            type_ = matrix if len(sizes) > 1 else Type.F32
            return Tensor(f"blk.{layer}.{part}.weight", sizes, type_)

        yield tensor("attn_norm", shape.hidden)
        yield tensor("ffn_down", shape.hidden, shape.inner)
        yield tensor("ffn_gate", shape.inner, shape.hidden)
        yield tensor("ffn_up", shape.inner, shape.hidden)
        yield tensor("ffn_norm", shape.hidden)
        yield tensor("attn_k", keys, shape.hidden)
        yield tensor("attn_output", shape.hidden, queries)
        yield tensor("attn_q", queries, shape.hidden)
        yield tensor("attn_v", keys, shape.hidden)
    yield Tensor("output_norm.weight", (shape.hidden,), Type.F32)
    if not shape.tied:
        yield Tensor("output.weight", (shape.vocabulary, shape.hidden), mixture.head)


def _add_metadata(writer: GGUFWriter, name: str, shape: Shape, file_type: LlamaFileType) -> None:
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(_CONTEXT_LENGTH)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(_ROPE_BASE)
    writer.add_layer_norm_rms_eps(1e-5)


def _add_tokenizer(writer: GGUFWriter, shape: Shape, seed: int) -> None:
    ordinary = shape.vocabulary - _SPECIAL_TOKENS
    words = random_vocabulary(ordinary, seed)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([*words, *_special_tokens()])
    writer.add_token_types([TokenType.NORMAL] * ordinary + [TokenType.CONTROL] * _SPECIAL_TOKENS)
    writer.add_token_merges(merges_of(words))
    writer.add_bos_token_id(ordinary)
    writer.add_eos_token_id(ordinary + 1)
    writer.add_eot_token_id(ordinary + 9)
    writer.add_add_bos_token(True)


def random_vocabulary(size: int, seed: int) -> list[str]:
    """A byte-level BPE vocabulary: the 256 bytes, then ever longer joins of two earlier tokens."""
    generator = random.Random(seed)
    words = list(_byte_alphabet())
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    starts, ends = ["Ġ", *letters], list(letters)
    known = set(words)
    while len(words) < size:
        # Most of English is made of few syllables: short and early parts come up more often.
        start = starts[int(len(starts) * generator.random() ** 2)]
        end = ends[int(len(ends) * generator.random() ** 3)]
        word = start + end
        if word in known or len(word) > _LONGEST_TOKEN:
            continue
        known.add(word)
        words.append(word)
        starts.append(word)
        if not word.startswith("Ġ"):
            ends.append(word)
    return words


def merges_of(words: list[str]) -> list[str]:
    """Every way to join two tokens into a third, in the order of the results: BPE's merge list."""
    known = set(words)
    return [
        f"{word[:cut]} {word[cut:]}"
        for word in words
        for cut in range(1, len(word))
        if word[:cut] in known and word[cut:] in known
    ]


def _byte_alphabet() -> Iterator[str]:
    """GPT-2's printable stand-ins for bytes, in its order: printable ones first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    yield from map(chr, printable)
    yield from (chr(256 + index) for index in range(256 - len(printable)))


def _special_tokens() -> Iterator[str]:
    """Llama 3.1's, from ``<|begin_of_text|>`` on; unnamed ones are reserved."""
    named = {
        0: "begin_of_text",
        1: "end_of_text",
        4: "finetune_right_pad_id",
        6: "start_header_id",
        7: "end_header_id",
        8: "eom_id",
        9: "eot_id",
        10: "python_tag",
    }
    reserved = 0
    for index in range(_SPECIAL_TOKENS):
        if index in named:
            yield f"<|{named[index]}|>"
        else:
            yield f"<|reserved_special_token_{reserved}|>"
            reserved += 1


def _random_blocks(
    generator: np.random.Generator, type_: Type, count: int, std: float
) -> NDArray[np.uint8]:
    """Blocks whose values have about the standard deviation `std`, shape ``[count, bytes]``.

    Formats that nothing writes get random codes and fitting scales.
    """
    encoding = GGML_TYPES[type_]
    values = generator.normal(0, std, (count, max(encoding.block_size, 32)))
    return encoded(values.astype(np.float32), encoding)


def _write_cyclic(file: BinaryIO, pool: NDArray[np.uint8], nbytes: int) -> None:
    """Writes `pool` over and over until `nbytes` are written."""
    for start in range(0, nbytes, pool.nbytes):
        file.write(pool.data.cast("B")[: nbytes - start])


def main() -> None:
    """Reads the command line and writes the file."""
    parser = argparse.ArgumentParser(
        description="Writes a GGUF file of a Llama 3 model's true shape with random weights."
    )
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("path", type=Path, metavar="OUT.gguf")
    parser.add_argument("--encoding", choices=MIXTURES, default="q4_0")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_random_gguf(arguments.path, SHAPES[arguments.shape], arguments.encoding, arguments.seed)


if __name__ == "__main__":
    main()
