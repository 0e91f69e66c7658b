"""``config.json`` as GGUF's metadata.

Source of the keys: the configs of https://github.com/huggingface/transformers, and what llama.cpp's
``convert_hf_to_gguf.py`` makes of them. A key that is not known here is passed on under its own
name, and told of like an unknown one of a GGUF file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipelines.common.checkpoints.huggingface.model import HuggingFaceModel, Settings
from pipelines.common.checkpoints.huggingface.rope import rope_numbers
from pipelines.common.errors import ModelFileError, quoted

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "head_dim": ("attention.key_length", "attention.value_length"),
    "hidden_act": ("hidden_activation",),
    "hidden_activation": ("hidden_activation",),
    "hidden_size": ("embedding_length",),
    "intermediate_size": ("feed_forward_length",),
    "layer_norm_eps": ("attention.layer_norm_epsilon",),
    "max_position_embeddings": ("context_length",),
    "moe_intermediate_size": ("expert_feed_forward_length",),
    "norm_topk_prob": ("expert_weights_norm",),
    "num_attention_heads": ("attention.head_count",),
    "num_experts": ("expert_count",),
    "num_experts_per_tok": ("expert_used_count",),
    "num_hidden_layers": ("block_count",),
    "num_key_value_heads": ("attention.head_count_kv",),
    "num_local_experts": ("expert_count",),
    "rms_norm_eps": ("attention.layer_norm_rms_epsilon",),
    "shared_expert_intermediate_size": ("expert_shared_feed_forward_length",),
    "sliding_window": ("attention.sliding_window",),
    "vocab_size": ("vocab_size",),
}
"""What keys that mean the same in all configs are in GGUF, without the architecture."""

_REQUIRED: Final = (
    "hidden_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
)

_HARMLESS: Final = frozenset(
    (
        # What is made and trained, not what is computed.
        "architectures",
        "attention_dropout",
        "attention_probs_dropout_prob",
        "auto_map",
        "classifier_dropout",
        "dtype",
        "embd_pdrop",
        "gradient_checkpointing",
        "hidden_dropout_prob",
        "initializer_range",
        "model_type",
        "pretraining_tp",
        "resid_pdrop",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "torch_dtype",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        # How it is run.
        "_attn_implementation",
        "_name_or_path",
        "attn_implementation",
        "cache_implementation",
        "chunk_size_feed_forward",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "return_dict",
        "use_cache",
        # The tokenizer's; its own files say them.
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "unk_token_id",
        # What tensors say.
        "attention_bias",
        "mlp_bias",
        "qkv_bias",
    )
)

_EXPECTED: Final[Mapping[str, tuple[Any, ...]]] = {
    "add_cross_attention": (False,),
    "alibi": (False,),
    "decoder_sparse_step": (1,),
    "is_decoder": (False, True),
    "is_encoder_decoder": (False,),
    "mlp_only_layers": ([],),
    "position_embedding_type": ("absolute",),
    "use_bidirectional_attention": (False,),
}
"""Keys that change results with any other values, which nothing in GGUF says."""

_LOCAL, _GLOBAL = "sliding_attention", "full_attention"


def architecture_numbers(
    config: Mapping[str, Any], model: HuggingFaceModel, path: Path
) -> tuple[dict[str, Any], dict[str, tuple[float, ...]]]:
    """What a config says, in the vocabulary of GGUF.

    Args:
        config: The config.
        model: What is special about it.
        path: The file, for messages.

    Returns:
        Metadata without the architecture, and tensors of which the file has the values.

    Raises:
        ModelFileError: A key is missing, or has a value that changes results and cannot be said.
    """
    # A default is for what is missing: null says that there is none.
    stated = {**model.defaults, **config}
    left: Settings = {key: value for key, value in stated.items() if value is not None}
    for key in _REQUIRED:
        if type(left.get(key)) is not int:
            said = f"is {quoted(str(left[key]))}" if key in left else "is missing"
            raise ModelFileError(f"{path}: {key} {said}, expected an integer")
    try:
        found = dict(model.numbers(left)) if model.numbers else {}
        _take_windows(left)
        rope, tensors = rope_numbers(left)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFileError(f"{path}: {_reason(error)}") from error
    for key, values in {**_EXPECTED, **model.expected}.items():
        if key in left and (value := left.pop(key)) not in values:
            expected = " or ".join(map(json.dumps, values))
            raise ModelFileError(
                f"{path}: {key} is {_short(value)}, which changes results and cannot be applied;"
                f" expected {expected}"
            )
    left.pop("tie_word_embeddings", None)  # see `tensors`
    found = {**rope, **found}
    known = {**_KEYS, **{key: (name,) for key, name in model.keys.items()}}
    for key, value in as_stated(left).items():
        if key not in _HARMLESS:
            for name in known.get(key, (key,)):
                found.setdefault(name, value)
    return found, tensors


def as_stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """What metadata can hold of a config; what it cannot is there as the beginning of a text."""
    stated = {key: value for key, value in config.items() if value is not None}
    return {key: v if _storable(v) else _short(v) for key, v in stated.items()}


def _take_windows(config: Settings) -> None:
    """Takes out what says whether layers see everything, where all of them are alike.

    Raises:
        ValueError: They are not, and the family does not know how to say it.
    """
    kinds = config.pop("layer_types", None)
    used = config.pop("use_sliding_window", True)
    from_layer = config.pop("max_window_layers", 0)
    if not used or "sliding_window" not in config:
        kinds = [_GLOBAL] if kinds is None else kinds
        config.pop("sliding_window", None)
    elif kinds is None and from_layer:
        local = max(0, config["num_hidden_layers"] - from_layer)
        kinds = [_GLOBAL] * from_layer + [_LOCAL] * local
    if kinds is None:
        return
    if not isinstance(kinds, list) or set(kinds) not in ({_GLOBAL}, {_LOCAL}):
        raise ValueError(
            f"layer_types is {_short(kinds)}, layers of several kinds, which this family is not"
            " known to have"
        )
    if kinds[0] == _GLOBAL:
        config.pop("sliding_window", None)


def _storable(value: Any) -> bool:
    """Whether metadata can hold it: a scalar, or several of one type."""
    if isinstance(value, list):
        return len({type(each) for each in value}) == 1 and not isinstance(value[0], list | dict)
    return not isinstance(value, dict)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _reason(error: Exception) -> str:
    """What is wrong with a config."""
    return str(error) if type(error) is ValueError else f"cannot be read: {error!r}"
