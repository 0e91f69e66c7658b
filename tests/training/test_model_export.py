"""The exported file against `transformers`, an independent reader of GGUF and of Llama."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch

from training.export import DESTINATION, write_gguf
from training.model import Dimensions, Transformer
from training.tokenizer import FILE, SPECIAL_TOKENS, VOCABULARY


def random_model() -> Transformer:
    """A small model whose weights are exact in float16 and whose norms are not all one."""
    torch.manual_seed(0)
    dims = Dimensions(width=64, layers=2, heads=4, kv_heads=2, feed_forward=96, context=64)
    model = Transformer(dims).eval()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
        parameter.data = parameter.data.half().float()
    return model


def test_transformers_computes_the_same_logits_from_the_exported_file(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    model = random_model()
    write_gguf(model, FILE, tmp_path / "model.gguf")
    judge = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32
    ).eval()
    tokens = torch.randint(VOCABULARY, (2, 64))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), judge(tokens).logits, atol=1e-4, rtol=0)


def test_exported_tensors_have_the_types_and_shapes_of_llama_cpp(tmp_path: Path) -> None:
    model = random_model()
    write_gguf(model, FILE, tmp_path / "model.gguf")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert len(tensors) == 2 + 9 * model.dims.layers
    assert "output.weight" not in tensors
    assert list(tensors["blk.1.attn_k.weight"].shape) == [64, 32]
    for name, tensor in tensors.items():
        is_norm = "norm" in name
        kind = gguf.GGMLQuantizationType.F32 if is_norm else gguf.GGMLQuantizationType.F16
        assert tensor.tensor_type == kind, name


def test_bundled_model_is_small_and_marks_its_control_tokens() -> None:
    assert DESTINATION.stat().st_size < 10_000_000
    fields = gguf.GGUFReader(DESTINATION).fields
    types = fields["tokenizer.ggml.token_type"].contents()
    control = [number for number, kind in enumerate(types) if kind == gguf.TokenType.CONTROL]
    assert control == list(range(VOCABULARY - len(SPECIAL_TOKENS), VOCABULARY))
    assert fields["tokenizer.ggml.eot_token_id"].contents() in control
    assert fields["general.architecture"].contents() == "llama"
