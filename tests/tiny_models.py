"""Small Llama models with random weights: made by `transformers`, written as GGUF."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, TokenType
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from pipelines.common.checkpoints.gguf.write import value_type
from pipelines.common.encodings import GGML_TYPES, convert
from pipelines.common.models.model import Model
from pipelines.common.nn.module import Module
from pipelines.common.nn.network import Network
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.targets.torch.runner import TorchRunner
from pipelines.common.text.byte_alphabet import byte_alphabet
from pipelines.common.text_generation import ModelOptions

VOCABULARY = 320
CONTEXT = 128
ROPE_BASE = 500000.0

LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
"""Llama 3.1's, but for a context so short that it changes what short prompts give."""

MIXED: Mapping[str, Type] = {
    "output.weight": Type.Q6_K,
    "blk.0.ffn_down.weight": Type.Q4_1,
}
"""What is not q4_0 in a "Q4_0" file that llama.cpp makes with an importance matrix."""


def llama(
    *,
    tied: bool = False,
    scaling: Mapping[str, Any] | None = None,
    biases: bool = False,
    head_dim: int = 64,
    seed: int = 0,
    vocabulary: int = VOCABULARY,
) -> LlamaForCausalLM:
    """Two layers, four heads on two; wide enough that a row is one q6_k block.

    Weights are large enough for logits of about one, and no norm's weights are all the same.
    """
    width = 4 * head_dim
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": ROPE_BASE, **(scaling or {"rope_type": "default"})},
        tie_word_embeddings=tied,
        initializer_range=width**-0.5,
        attention_bias=biases,
        mlp_bias=biases,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data.uniform_(0.5, 1.5)
        elif name.endswith(".bias"):
            parameter.data.normal_()
    return model


def write_gguf(
    path: Path,
    model: LlamaForCausalLM,
    kind: Type = Type.F32,
    *,
    exceptions: Mapping[str, Type] | None = None,
    metadata: Mapping[str, Any] | None = None,
    rope_factors: NDArray[np.float32] | None = None,
    architecture: str = "llama",
    renamed: Mapping[str, str] | None = None,
    alignment: int | None = None,
    more: Mapping[str, NDArray[np.float32]] | None = None,
) -> Path:
    """Writes a model as llama.cpp's converter does.

    Args:
        path: Where to write it.
        model: The model.
        kind: What matrices are stored in; vectors are float32.
        exceptions: Matrices that are stored in something else, by their name in the file.
        metadata: Pairs to set beside the usual ones, or in their place; None leaves one out.
        rope_factors: The tensor ``rope_freqs.weight``.
        architecture: What the file calls the architecture.
        renamed: Names that tensors have in place of their own.
        alignment: Of the tensors; None for the usual one, which a file does not name.
        more: Tensors beside the model's.
    """
    config = model.config
    writer = GGUFWriter(path, architecture)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    dimensions = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_parameters["rope_theta"],
        "rope.dimension_count": config.head_dim,
    }
    pairs = {f"{architecture}.{key}": value for key, value in dimensions.items()}
    pairs |= metadata or {}
    for key, value in pairs.items():
        if value is not None:
            writer.add_key_value(key, value, value_type(value))
    _add_tokenizer(writer, config.vocab_size)
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", rope_factors)
    for name, values in (more or {}).items():
        writer.add_tensor(name, values)
    for name, weight in tensors(model).items():
        stored = (exceptions or {}).get(name, kind) if weight.ndim == 2 else Type.F32
        written = (renamed or {}).get(name, name)
        writer.add_tensor(written, encoded(weight, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(model: LlamaForCausalLM) -> dict[str, NDArray[np.float32]]:
    """The weights under their GGUF names, rows of Q and K in GGUF's order."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    result = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        values = weight.numpy()
        projection = name.split(".")[-2]
        if projection in heads:
            halves = values.reshape(heads[projection], 2, -1, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        result[names.get_name(name, try_suffixes=[".weight", ".bias"])] = values
    return result


def encoded(values: NDArray[np.float32], kind: Type) -> NDArray[Any]:
    """Rows in the encoding `kind`; where nothing writes it, other values of about their size."""
    if kind == Type.F32:
        return values
    if kind == Type.Q6_K:
        return _q6_k(values)
    encoding = GGML_TYPES[kind]
    if encoding.coded and encoding.encode is None:
        return convert.encoded(values, encoding)
    return gguf.quantize(values, kind)


def _q6_k(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A plain q6_k quantizer: `gguf` has none. Super-block scales are such that block scales fit.

    Layout: https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h
    """
    rows = len(values)
    blocks = values.reshape(-1, 16, 16)
    wanted = np.abs(blocks).max(-1) / 31
    d = (wanted.max(-1, keepdims=True) / 127).astype(np.float16)
    scales = np.rint(wanted / d.astype(np.float32)).clip(1, 127).astype(np.int8)
    steps = (scales * d.astype(np.float32))[..., None]
    quants = (np.rint(blocks / steps).clip(-32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.concatenate([quants[:, :, :2] & 15 | (quants[:, :, 2:] & 15) << 4], axis=2)
    high = sum((quants[:, :, quarter] >> 4) << 2 * quarter for quarter in range(4))
    return np.concatenate(
        [
            low.reshape(-1, 128),
            high.reshape(-1, 64).astype(np.uint8),
            scales.view(np.uint8),
            d.view(np.uint8),
        ],
        axis=1,
    ).reshape(rows, -1)


def in_transformers(path: Path, scaling: Mapping[str, Any] | None = None) -> LlamaForCausalLM:
    """A GGUF file as `transformers` reads it; of scalings it reads none."""
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    if scaling is not None:
        config.rope_parameters = {**config.rope_parameters, **scaling}
    return LlamaForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, config=config, dtype=torch.float32
    ).eval()


def logits(model: LlamaForCausalLM, tokens: list[int]) -> NDArray[np.float32]:
    """The logits after every token, ``[len(tokens), vocabulary]``."""
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0].numpy()


def random_tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(VOCABULARY, size=count).tolist()


def open_model(
    path: Path | None,
    *,
    target: str = "cpu",
    encoding: str = "float32",
    progress: Progress | None = None,
    pipeline: str = "llama3",
    plugins: Iterable[Path] = (),
    custom_ops: Iterable[Path] = (),
    native_ops: bool = False,
) -> Model:
    """Opens a file as the driver does, but with the stock operators where no others are named.

    Args:
        path: The model file; None for the model that ships with the pipeline.
        target: What to run on.
        encoding: What the big matrices run in.
        progress: Told of everything.
        pipeline: The pipeline that opens it.
        plugins: Plugins beside the usual ones.
        custom_ops: Op packages.
        native_ops: Whether the project's own kernels are used.
    """
    registry = Registry.discover(plugins)
    options = ModelOptions(
        model_path=path,
        encoding=encoding,
        target=target,
        custom_ops=tuple(custom_ops),
        native_ops=native_ops,
    )
    return registry.load_pipeline(pipeline).open(options, registry, progress or Progress())


def eager(model: Model) -> Network:
    """The network of a Llama, with its weights in float32."""
    package, _, function = model.program.function.partition(":")
    network: Network = getattr(importlib.import_module(package), function)(model.config)
    weights = model.program.weights
    values = {n: torch.tensor(weights.float32(n)) for n in network.parameters()}
    return network.bind(values, torch.from_numpy)


def round_first(module: Module, rounded: Callable[[Tensor], Tensor]) -> None:
    """Has a module of a bound network compute with what a function makes of its input."""
    forward = module.forward
    module.forward = lambda x: forward(rounded(x))


def eager_runner(network: Network, length: int) -> TorchRunner:
    """Runs the network of a model, changed or not, in one slot."""
    return TorchRunner(network, 1, length)


def _add_tokenizer(writer: GGUFWriter, size: int) -> None:
    """Llama 3's kind: the bytes, one merge, and reserved tokens."""
    words = [*byte_alphabet(), "th"]
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    reserved = [f"<|reserved_special_token_{i}|>" for i in range(size - len(words + special))]
    control = special + reserved
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(words + control)
    writer.add_token_types([TokenType.NORMAL] * len(words) + [TokenType.CONTROL] * len(control))
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(len(words))
    writer.add_eos_token_id(len(words) + 1)
    writer.add_eot_token_id(len(words) + 2)
