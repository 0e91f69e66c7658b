"""Compares a pipeline with a model of the `transformers` library that has the same weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.rope import TENSORS
from pipelines.common.encoder.config import EncoderConfig
from pipelines.common.encodings.convert import dequantize
from pipelines.common.pipeline_check.compare import near
from pipelines.common.pipeline_check.outcome import require
from pipelines.common.pipeline_check.subject import Subject

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Names: TypeAlias = Callable[[str], str | Sequence[str] | None]
"""The name in a GGUF file of what a model calls a parameter; the names of those whose rows it has,
one after the other; or None if the file does not have it."""

Values: TypeAlias = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]
"""The values of a parameter, given its name in a GGUF file and what stands there."""

Join: TypeAlias = Callable[[str, Sequence[NDArray[np.float32]]], NDArray[np.float32]]
"""The values of a model's parameter, given its name there and those of each of its parts."""

_STACK = re.compile(r"(?P<stem>.*experts\.)(?P<part>gate_up|down)_proj(?P<bias>_bias)?")
_ROTATED = re.compile(r"blk\.\d+\.attn_([qk])\.(weight|bias)")


def check_twin(
    subject: Subject,
    model: PreTrainedModel,
    names: Names | None = None,
    values: Values | None = None,
    *,
    join: Join | None = None,
    allowed: float = 1e-4,
) -> str:
    """Makes sure that the network computes what a twin with its weights does.

    Args:
        subject: The pipeline and its weights, which the twin gets.
        model: The twin, of the same sizes; see `twin_numbers`.
        names: What its parameters are called in a GGUF file; by default as the `gguf` package has
            them for the architecture.
        values: What the twin's values are, where they are not those of the file.
        join: What it makes of the parts of a parameter, where that is not the rows of one after the
            other's.
        allowed: The largest error, relative to the largest logit.

    Returns:
        How near they are.

    Raises:
        CheckFailedError: They are not near enough, or do not have the same weights.
    """
    import torch

    load_twin(subject, model, names, values, join=join)
    with torch.no_grad():
        made = model(torch.tensor([subject.tokens]))
    expected: NDArray[np.float32] = (made.last_hidden_state if subject.encodes else made.logits)[
        0
    ].numpy()
    return near(subject.reference, expected, allowed)


def load_twin(
    subject: Subject,
    model: PreTrainedModel,
    names: Names | None = None,
    values: Values | None = None,
    *,
    join: Join | None = None,
) -> None:
    """Gives a twin the weights of a pipeline.

    Args:
        subject: The pipeline and its weights.
        model: The twin.
        names: See `check_twin`.
        values: See `check_twin`.
        join: See `check_twin`.

    Raises:
        CheckFailedError: One of them has a parameter that the other lacks, or of another shape.
    """
    import torch

    checkpoint, config = subject.checkpoint, subject.open().config
    if names is None:
        architecture = checkpoint.metadata.string("general.architecture")
        names = gguf_names(architecture, config.layers)
    used: set[str] = set()
    filled: set[int] = set()
    model.train(False)
    for parameter, tensor in model.state_dict().items():
        if tensor.data_ptr() in filled:
            continue  # a tied matrix is there under its first name
        found = names(parameter)
        if found is None:
            continue
        parts = (found,) if isinstance(found, str) else found
        for name in parts:
            known = name in checkpoint.tensors
            require(known, f"the twin's {parameter} is {name}, which is not there")
        stored = [_in_order_of_halves(checkpoint, config, name) for name in parts]
        if values is not None:
            stored = [values(name, part) for name, part in zip(parts, stored, strict=True)]
        rows = (join or _one_after_the_other)(parameter, stored)
        require(
            rows.shape == tuple(tensor.shape),
            f"{' and '.join(parts)} is {[*rows.shape]}, and the twin's {parameter}"
            f" {[*tensor.shape]}",
        )
        tensor.copy_(torch.tensor(rows))
        used.update(parts)
        filled.add(tensor.data_ptr())
    left = sorted(checkpoint.tensors.keys() - used - {*TENSORS})
    require(not left, f"the twin has nothing for {', '.join(left)}")


def twin_numbers(subject: Subject) -> dict[str, Any]:
    """The numbers of a pipeline's config as configs of `transformers` call them.

    Args:
        subject: The pipeline and its weights.
    """
    config = subject.open().config
    if isinstance(config, EncoderConfig):
        return {
            "vocab_size": config.vocabulary,
            "max_position_embeddings": config.context_length,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "layer_norm_eps": config.norm_epsilon,
        }
    return {
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope.base},
        "tie_word_embeddings": config.tied,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def gguf_names(architecture: str, layers: int) -> Names:
    """The names that the `gguf` package, and so llama.cpp's converter, has for parameters.

    Args:
        architecture: What GGUF files call the architecture.
        layers: The model's layers.

    Raises:
        CheckFailedError: The package knows no such architecture.
    """
    import gguf

    found = [key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture]
    require(found, f"gguf knows no architecture {architecture!r}; say what tensors are called")
    table = gguf.get_tensor_name_map(found[0], layers)

    def one(parameter: str) -> str:
        known: str | None = table.get_name(parameter, try_suffixes=(".weight", ".bias"))
        require(known, f"gguf has no name for {parameter}; say what tensors are called")
        return str(known)

    def name(parameter: str) -> str | Sequence[str]:
        # `transformers` has the matrices of experts in stacks, gate and up in one.
        if stack := _STACK.fullmatch(parameter):
            kind = "bias" if stack["bias"] else "weight"
            halves = ("gate_proj", "up_proj") if stack["part"] == "gate_up" else ("down_proj",)
            return [one(f"{stack['stem']}{half}.{kind}") for half in halves]
        found = one(parameter)
        return found if found.endswith((".weight", ".bias")) else f"{found}.weight"

    return name


def _one_after_the_other(
    _parameter: str, parts: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)


def _in_order_of_halves(
    checkpoint: Checkpoint, config: DecoderConfig | EncoderConfig, name: str
) -> NDArray[np.float32]:
    """A tensor's values; rows of queries and keys in the order that `transformers` has them."""
    tensor = checkpoint.tensors[name]
    values = dequantize(tensor.encoding, checkpoint.raw(name)).reshape(tensor.shape)
    rotated = _ROTATED.fullmatch(name)
    if rotated is None or not checkpoint.interleaved or isinstance(config, EncoderConfig):
        return values
    heads = config.heads if rotated[1] == "q" else config.kv_heads
    pairs = values.reshape(heads, -1, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)
