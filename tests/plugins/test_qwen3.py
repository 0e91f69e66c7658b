"""The example plugin against transformers' own implementation of the same architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from on_cpu_provider import on_coreml, on_cuda

from pipelines.common.errors import ModelFileError
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Deployment
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text.tokenizer import byte_alphabet
from pipelines.common.text_generation import GraphModel, ModelOptions

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(scope="module")
def judge() -> transformers.Qwen3ForCausalLM:
    torch.manual_seed(3)
    config = transformers.Qwen3Config(
        vocab_size=258,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # heads * head_dim is not the hidden size
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
    )
    model = transformers.Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # all ones would hide a norm that is left out
                parameter.copy_(torch.rand_like(parameter) + 0.5)
            else:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture(scope="module")
def model_file(
    judge: transformers.Qwen3ForCausalLM, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    config = judge.config
    path = tmp_path_factory.mktemp("qwen3") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(128)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1e6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*byte_alphabet(), "he", "<|im_end|>"])
    writer.add_token_types([1] * 257 + [3])
    writer.add_token_merges(["h e"])
    writer.add_eos_token_id(257)
    for name, tensor in judge.state_dict().items():
        values = tensor.numpy()
        if name == "model.embed_tokens.weight":
            writer.add_tensor("token_embd.weight", values)
        elif name == "model.norm.weight":
            writer.add_tensor("output_norm.weight", values)
        elif name.startswith("model.layers."):
            layer, module = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
            writer.add_tensor(f"blk.{layer}.{NAMES[module]}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("target", "native_ops"), [("cpu", True), ("cpu", False), ("torch", False)]
)
def test_logits_are_those_of_transformers(
    target: str, native_ops: bool, judge: transformers.Qwen3ForCausalLM, model_file: Path
) -> None:
    registry = Registry.discover()
    options = ModelOptions(
        model_path=model_file, encoding="float32", target=target, native_ops=native_ops
    )
    model = registry.load_pipeline("qwen3").open(options, registry, Progress())
    tokens = model.tokenizer.encode("The quick brown fox jumps over 13 lazy dogs.")
    runner = model.start(slots=1, max_length=64)

    with torch.no_grad():
        expected = judge(torch.tensor([tokens])).logits[0].numpy()
    np.testing.assert_allclose(runner.score(tokens), expected, atol=1e-4, rtol=0)

    runner.prefill(0, tokens[:-1])
    np.testing.assert_allclose(runner.decode(tokens[-1:])[0], expected[-1], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("start", "encoding", "tolerance"),
    [(on_coreml, "float32", 0.1), (on_cuda, "float32", 1e-4)],
    ids=["coreml", "cuda"],
)
def test_graphs_for_other_targets_on_the_cpu_provider(
    start: Callable[[Deployment], Runner],
    encoding: str,
    tolerance: float,
    judge: transformers.Qwen3ForCausalLM,
    model_file: Path,
) -> None:
    """Normalized heads and rotated halves, lowered as Llama's network is; coreml is in float16."""
    registry = Registry.discover()
    options = ModelOptions(model_path=model_file, encoding=encoding, native_ops=False)
    model = registry.load_pipeline("qwen3").open(options, registry, Progress())
    assert isinstance(model, GraphModel)
    tokens = model.tokenizer.encode("The quick brown fox jumps over 13 lazy dogs.")
    with torch.no_grad():
        expected = judge(torch.tensor([tokens])).logits[0].numpy()
    assert np.abs(np.diff(expected, axis=0)).max(-1).min() > 10 * tolerance
    runner = start(model.deployment(slots=1, max_length=64))
    logits = runner.prefill(0, tokens[:-1])
    np.testing.assert_allclose(logits, expected[-2], atol=tolerance, rtol=0)
    logits = runner.decode(tokens[-1:])[0]
    np.testing.assert_allclose(logits, expected[-1], atol=tolerance, rtol=0)


def test_neighbours_change_nothing_with_the_native_kernels(model_file: Path) -> None:
    """Its norms of heads are ONNX Runtime's own, beside the native products."""
    registry = Registry.discover()
    options = ModelOptions(model_path=model_file, encoding="float32")
    model = registry.load_pipeline("qwen3").open(options, registry, Progress())
    if not model.describe()["op_packages"]:
        pytest.skip("the native kernels are not built")
    tokens = model.tokenizer.encode("The quick brown fox jumps over 13 lazy dogs.")
    runner = model.start(slots=3, max_length=64)
    assert runner.batch_invariant
    full = runner.score(tokens)
    for slot, length in enumerate((3, 11, 20)):
        np.testing.assert_array_equal(runner.prefill(slot, tokens[:length]), full[length - 1])
    for step in range(8):
        logits = runner.decode([tokens[length + step] for length in (3, 11, 20)])
        for slot, length in enumerate((3, 11, 20)):
            np.testing.assert_array_equal(logits[slot], full[length + step])


def test_another_architecture_is_refused(model_file: Path) -> None:
    registry = Registry.discover()
    options = ModelOptions(model_path=model_file)
    with pytest.raises(
        ModelFileError, match=r"'qwen3'; .* llama3 runs 'llama'; use pipeline qwen3$"
    ):
        registry.load_pipeline("llama3").open(options, registry, Progress())
