"""The random models of the benchmarks are sound, and as llama.cpp would write them."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from benchmarks import random_gguf
from benchmarks.mixtures import MIXTURES
from pipelines.common.checkpoints.gguf.reader import GGUFFile, open_gguf


def write(path: Path, *options: str) -> GGUFFile:
    """What the command line writes."""
    with patch.object(sys, "argv", ["random_gguf", "tiny", str(path), *options]):
        random_gguf.main()
    return open_gguf(path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    return write(tmp_path_factory.mktemp("random") / "tiny.gguf")


def test_encodings_are_mixed_as_llama_cpp_mixes_them(tiny: GGUFFile) -> None:
    encodings = {name: tensor.encoding.name for name, tensor in tiny.tensors.items()}
    assert "output.weight" not in encodings
    assert encodings.pop("token_embd.weight") == "q6_k"
    assert {name for name, encoding in encodings.items() if encoding == "f32"} == {
        "rope_freqs.weight",
        "output_norm.weight",
        *(f"blk.{layer}.{part}_norm.weight" for layer in (0, 1) for part in ("attn", "ffn")),
    }
    assert set(encodings.values()) == {"f32", "q4_0"}


def test_files_of_k_quants_have_more_bits_where_llama_cpp_spends_them() -> None:
    layers = range(16)  # of Llama 3.2 1B
    mixed = MIXTURES["q4_k_m"]
    more = [i for i in layers if mixed.of_layer("ffn_down", i, 16) == Type.Q6_K]
    assert more == [0, 1, 4, 7, 10, 13, 14, 15]
    assert more == [i for i in layers if mixed.of_layer("attn_v", i, 16) == Type.Q6_K]
    assert {mixed.of_layer("ffn_up", i, 16) for i in layers} == {Type.Q4_K}
    assert mixed.head == Type.Q6_K
    table = MIXTURES["iq4_xs"]
    assert [table.of_layer("ffn_down", i, 16) for i in (1, 2)] == [Type.Q5_K, Type.IQ4_XS]
    assert {table.of_layer("attn_v", i, 16) for i in layers} == {Type.Q5_K}


@pytest.mark.parametrize("encoding", MIXTURES)
def test_weights_have_unit_gain(tmp_path: Path, encoding: str) -> None:
    """Rows of standard deviation 1/sqrt(K) around zero, no two of them alike."""
    file = write(tmp_path / "tiny.gguf", "--encoding", encoding)
    for tensor in gguf.GGUFReader(file.path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(values).all()
        if values.ndim == 2:
            assert values.std() == pytest.approx(256**-0.5, rel=0.1)
            assert abs(values.mean()) < 0.06 * 256**-0.5
            assert len(np.unique(values, axis=0)) == len(values)


def test_rope_factors_are_those_of_llama_3_2(tiny: GGUFFile) -> None:
    parameters = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = LlamaConfig(
        hidden_size=256, num_attention_heads=4, head_dim=64, rope_parameters=parameters
    )
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 500000.0 ** -(np.arange(0, 64, 2) / 64)
    factors = tiny.raw("rope_freqs.weight").view(np.float32)[0]
    np.testing.assert_allclose(plain / factors, scaled.numpy(), rtol=1e-5)


def test_the_vocabulary_spells_any_text(tiny: GGUFFile) -> None:
    metadata = tiny.metadata
    tokens = metadata.strings("tokenizer.ggml.tokens")
    kinds = metadata.integers("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in metadata.strings("tokenizer.ggml.merges")]
    assert len(set(tokens)) == len(tokens) == len(kinds) == 1024
    assert {token for token, kind in zip(tokens, kinds, strict=True) if kind == 3} == set(
        tokens[768:]
    )
    assert tokens[metadata.integer("tokenizer.ggml.bos_token_id")] == "<|begin_of_text|>"
    assert tokens[metadata.integer("tokenizer.ggml.eos_token_id")] == "<|end_of_text|>"
    assert tokens[metadata.integer("tokenizer.ggml.eot_token_id")] == "<|eot_id|>"
    assert tokens[-1] == "<|reserved_special_token_247|>"
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = "The meaning of life: 42, naïve 😀\n\t\x00"
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert any(index >= 256 for index in ids)
    assert all(index < 768 for index in ids)


def test_a_seed_decides_everything(tiny: GGUFFile, tmp_path: Path) -> None:
    path = tmp_path / tiny.path.name  # the model is named after its file
    assert write(path).path.read_bytes() == tiny.path.read_bytes()
    assert write(path, "--seed", "1").path.read_bytes() != tiny.path.read_bytes()
