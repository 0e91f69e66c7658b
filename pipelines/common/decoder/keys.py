"""What becomes of the keys of a model file: none that changes results is dropped without a word.

The keys are those of the GGUF specification and of llama.cpp's loader:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and
https://github.com/ggml-org/llama.cpp/blob/master/src/llama-arch.cpp
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

from pipelines.common.checkpoints.checkpoint import Checkpoint, Metadata
from pipelines.common.decoder.numbers import EXPERT_COUNT, keys
from pipelines.common.encodings import BF16, F16, F32
from pipelines.common.errors import ModelFileError, listed, quoted


class Use(Enum):
    """What is done with a key, whatever its value is."""

    APPLIED = "read by what refuses a value that it cannot apply"
    HARMLESS = "no decoder's results depend on it, or only beside another key that is refused"


class Sizes(Protocol):
    """What of a model's numbers says whether a key makes a difference."""

    @property
    def vocabulary(self) -> int:
        """Token ids."""

    @property
    def layers(self) -> int:
        """Number of blocks."""

    @property
    def context_length(self) -> int:
        """Tokens of the longest sequence."""


Neutral: TypeAlias = tuple[Any, ...] | Callable[[Any, Sizes], bool]
"""The values with which a key changes nothing; with any other the file is refused."""


def _window(value: Any, config: Sizes) -> bool:
    """Whether no sequence is as long as the window."""
    return isinstance(value, int | float) and (value == 0 or value >= config.context_length)


_OFF: Final = (0,)
_NO_SCALE: Final = (0, 1)

KEYS: Final[Mapping[str, Use | Neutral]] = {
    **dict.fromkeys(
        (
            "block_count",
            "context_length",
            "embedding_length",
            "feed_forward_length",
            "vocab_size",
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "attention.layer_norm_epsilon",
            "attention.layer_norm_rms_epsilon",
            "attention.scale",
            "attention.value_length",
            "rope.dimension_count",
            "rope.freq_base",
            "rope.scale_linear",
            "rope.scaling.attn_factor",
            "rope.scaling.factor",
            "rope.scaling.high_freq_factor",
            "rope.scaling.low_freq_factor",
            "rope.scaling.original_context_length",
            "rope.scaling.type",
            "rope.scaling.yarn_attn_factor",
            "rope.scaling.yarn_beta_fast",
            "rope.scaling.yarn_beta_slow",
            "rope.scaling.yarn_ext_factor",
            "rope.scaling.yarn_log_multiplier",
        ),
        Use.APPLIED,
    ),
    **dict.fromkeys(
        (
            "pooling_type",
            "rope.scaling.finetuned",
            # Only beside a sliding window.
            "attention.key_length_swa",
            "attention.sliding_window_pattern",
            "attention.value_length_swa",
            "rope.dimension_count_swa",
            "rope.freq_base_swa",
            # Only beside experts, see below.
            "expert_feed_forward_length",
            "expert_gating_func",
            "expert_group_scale",
            "expert_shared_feed_forward_length",
            "expert_weights_norm",
            "expert_weights_scale",
            "interleave_moe_layer_step",
            "leading_dense_block_count",
            "moe_every_n_layers",
            "router_logit_softcapping",
        ),
        Use.HARMLESS,
    ),
    "attention.causal": (True,),
    "attention.clamp_kqv": _OFF,
    "attention.group_norm_groups": _OFF,
    "attention.kv_lora_rank": _OFF,
    "attention.max_alibi_bias": _OFF,
    "attention.output_scale": _NO_SCALE,
    "attention.q_lora_rank": _OFF,
    "attention.relative_buckets_count": _OFF,
    "attention.rope_pattern": (1,),
    "attention.shared_kv_layers": _OFF,
    "attention.sliding_window": _window,
    "attention.temperature_length": _OFF,
    "attention.temperature_scale": _OFF,
    "attention.value_scale": _NO_SCALE,
    "attn_logit_softcapping": _OFF,
    "embedding_length_per_layer_input": _OFF,
    "embedding_scale": _NO_SCALE,
    "expert_count": _OFF,
    "expert_group_count": _OFF,
    "expert_group_used_count": _OFF,
    "expert_shared_count": _OFF,
    "expert_used_count": _OFF,
    "final_logit_softcapping": _OFF,
    "hidden_activation": ("silu", "swish"),
    "logit_scale": _NO_SCALE,
    "nextn_predict_layers": _OFF,
    "num_loops": _NO_SCALE,
    "residual_scale": _NO_SCALE,
    "rope.dimension_sections": _OFF,
    "rope.scale": _NO_SCALE,
    "rope.scaling.alpha": _OFF,
    "swin_norm": (False,),
    "tensor_data_layout": ("reference", "Meta AI original pth"),
    "use_parallel_residual": (False,),
}
"""The keys of an architecture's own prefix, without it. Of arrays, every element counts."""

BESIDE_EXPERTS: Final[Mapping[str, Neutral]] = {
    "expert_feed_forward_length": (),
    "expert_gating_func": (0, 1),
    "expert_group_scale": _NO_SCALE,
    "expert_shared_feed_forward_length": _OFF,
    "expert_weights_norm": (False,),
    "expert_weights_scale": _NO_SCALE,
    "interleave_moe_layer_step": _NO_SCALE,
    "leading_dense_block_count": _OFF,
    "moe_every_n_layers": _NO_SCALE,
    "router_logit_softcapping": _OFF,
}
"""What those keys have to be that a family with experts does not read."""

_EXPERTS: Final = re.compile(r"blk\.\d+\.ffn_(gate_inp|\w+_exps|(gate|up|down)\.\d+)\.weight")
"""Tensors of feed-forward networks of which a router chooses some."""

_SPLIT: Final = re.compile(r"blk\.\d+\.ffn_(gate|up|down)\.\d+\.weight")
"""Those of a single one, as converters wrote them once."""

_SECTIONS: Final = 4
"""Numbers of the one key whose array is not one of blocks, ``rope.dimension_sections``."""

_QUANTIZATION_VERSION: Final = 2
"""Of ggml's block formats; GGUF has known no other."""


def has_experts(config: Sizes) -> bool:
    """Whether a decoder's feed-forward networks are mixtures of experts."""
    fields = keys(type(config)).items()
    return any(key.name == EXPERT_COUNT and getattr(config, name) for name, key in fields)


def check_kind(file: Checkpoint, architecture: str, numbers: type[Sizes]) -> None:
    """Checks that a file is a model of the family's kind, before its dimensions are read.

    Args:
        file: The file.
        architecture: Prefix of its keys.
        numbers: The dataclass of the family's numbers: it has that of experts, or models are dense.

    Raises:
        ModelFileError: It is something else.
    """
    kind = file.metadata.string("general.type", "model")
    if kind != "model":
        raise ModelFileError(f"{file.path}: its 'general.type' is {quoted(kind)}, expected a model")
    if any(key.name == EXPERT_COUNT for key in keys(numbers).values()):
        if split := next((name for name in file.tensors if _SPLIT.fullmatch(name)), None):
            raise ModelFileError(
                f"{file.path}: has a tensor for each expert ({quoted(split)}); expected one for all"
                " of a layer, as 'ffn_gate_exps', which today's converters write; convert the model"
                " again"
            )
        return
    key = f"{architecture}.{EXPERT_COUNT}"
    sign = f"'{key}' is {file.metadata.describe(key)}" if file.metadata.integer(key, 0) else None
    sign = sign or next((f"has {quoted(n)}" for n in file.tensors if _EXPERTS.fullmatch(n)), None)
    if sign:
        raise ModelFileError(
            f"{file.path}: is a mixture-of-experts model ({sign}); only dense models can be run"
        )


def check_keys(
    file: Checkpoint,
    architecture: str,
    config: Sizes,
    notice: Callable[[str], None],
    ignored: Collection[str] = (),
) -> None:
    """Checks that nothing in the metadata changes results without being applied.

    Args:
        file: The file.
        architecture: Prefix of its keys.
        config: What has been read of it.
        notice: Told, in one line each, what is not known and what is assumed.
        ignored: Keys that the family knowingly leaves aside, without the architecture.

    Raises:
        ModelFileError: A key has a value that is not applied, and with which results differ.
    """
    unknown = []
    known = {key.name for key in keys(type(config)).values()} | set(ignored)
    table = {**KEYS, **BESIDE_EXPERTS} if has_experts(config) else KEYS
    for key in file.metadata:
        prefix, _, name = key.partition(".")
        if prefix != architecture or name in known:
            continue
        use = table.get(name)
        if use is None:
            unknown.append(quoted(key))
        elif not isinstance(use, Use) and not _is_neutral(use, file.metadata, key, config):
            raise ModelFileError(
                f"{file.path}: metadata key {quoted(key)} is the {file.metadata.describe(key)},"
                " which changes results and cannot be applied; use another conversion of the model,"
                " or another program"
            )
    if unknown:
        notice(
            f"{file.path.name} has metadata keys that are not known and not applied:"
            f" {listed(unknown)}; if they change results, results are wrong"
        )
    _tell_of_contradictions(file, architecture, config, notice)


def _is_neutral(neutral: Neutral, metadata: Metadata, key: str, config: Sizes) -> bool:
    length = metadata.length(key)
    if length is not None and length > max(config.layers, _SECTIONS):
        return False  # it is not looked at: it could be of any length
    elements = [metadata[key]] if length is None else metadata[key]
    if callable(neutral):
        return all(neutral(element, config) for element in elements)
    return all(element in neutral for element in elements)


def _tell_of_contradictions(
    file: Checkpoint, architecture: str, config: Sizes, notice: Callable[[str], None]
) -> None:
    """Tells of keys that say something else than the tensors, which are what counts."""
    key = f"{architecture}.vocab_size"
    if file.metadata.get(key, config.vocabulary) != config.vocabulary:
        notice(
            f"{file.path.name}: '{key}' is the {file.metadata.describe(key)}, the embedding has"
            f" {config.vocabulary} rows; the rows are what counts"
        )
    key = "general.quantization_version"
    if file.metadata.get(key, _QUANTIZATION_VERSION) != _QUANTIZATION_VERSION and any(
        tensor.encoding not in (F32, F16, BF16) for tensor in file.tensors.values()
    ):
        notice(
            f"{file.path.name}: '{key}' is the {file.metadata.describe(key)};"
            f" {_QUANTIZATION_VERSION} is assumed"
        )
