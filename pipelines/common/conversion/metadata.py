"""What a GGUF file that is written says, whatever format the model is read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Checkpoint, Metadata
from pipelines.common.checkpoints.gguf.tokenizer_keys import is_byte_level, tokenizer_keys
from pipelines.common.checkpoints.tokenizer_source import MODEL, TokenizerMaker
from pipelines.common.conversion.wanted import Wanted, is_matrix
from pipelines.common.errors import ModelFileError, TokenizerError, quoted
from pipelines.common.files import exists, is_folder
from pipelines.common.text.folder import tokenizer_of_folder
from pipelines.common.text.sentence_piece_file import FILE_NAME
from pipelines.common.text.tokenizer import Tokenizer

_LEFT_OUT: Final = ("general.alignment", "split.no", "split.count", "split.tensors.count")
"""Of a file, and not of the model in it."""

_NUMBERS: Final = (
    "_epsilon",
    "_scale",
    "_softcapping",
    ".attention.clamp_kqv",
    ".attention.max_alibi_bias",
    ".attention.scale",
    ".rope.freq_base",
    ".rope.freq_base_swa",
    ".rope.scaling.alpha",
    ".rope.scaling.attn_factor",
    ".rope.scaling.factor",
    ".rope.scaling.yarn_attn_factor",
    ".rope.scaling.yarn_beta_fast",
    ".rope.scaling.yarn_beta_slow",
    ".rope.scaling.yarn_ext_factor",
    ".rope.scaling.yarn_log_multiplier",
)
"""Ends of the keys whose values llama.cpp takes as floats alone; JSON may have them without a
point."""

_FILE_TYPE, _VERSION = "general.file_type", "general.quantization_version"
_EMBEDDING: Final = "token_embd.weight"


def metadata_of_file(
    checkpoint: Checkpoint,
    wanted: Wanted,
    cache: Cache,
    notice: Callable[[str], None],
    make: TokenizerMaker,
) -> dict[str, Any]:
    """All that a file says: what the checkpoint does, its tokenizer, and what matrices are in.

    Args:
        checkpoint: What is written.
        wanted: What in.
        cache: Where tokenizers are kept.
        notice: Told, in one line each, what cannot be said and does not keep the file from use.
        make: See `Checkpoint.tokenizer`.

    Raises:
        ModelFileError: The model is of no family that is known, or a key is damaged.
        TokenizerError: The tokenizer cannot be read, or not be said in GGUF's keys.
    """
    from gguf import GGML_QUANT_VERSION

    metadata = checkpoint.metadata
    architecture = metadata.string("general.architecture")
    if f"{architecture}.block_count" not in metadata:
        raise ModelFileError(
            f"{checkpoint.path}: is of the type {quoted(architecture)}, which no pipeline here has"
            " GGUF's names for; expected a model that can be run"
        )
    pairs = {key: _value(metadata, key) for key in metadata if key not in _LEFT_OUT}
    pairs[_VERSION] = GGML_QUANT_VERSION
    if wanted.matrices is not None or _FILE_TYPE not in pairs:
        pairs[_FILE_TYPE] = int(_file_type(checkpoint, wanted))
    if MODEL not in metadata:
        if checkpoint.has_tokenizer:
            tokenizer = _tokenizer(checkpoint, cache, notice, make)
            embedding = checkpoint.tensors.get(_EMBEDDING)
            pairs |= tokenizer_keys(tokenizer, embedding.rows if embedding else 0, notice)
        else:
            notice(f"{checkpoint.path}: has no tokenizer, and so the file has none")
    return pairs


def _value(metadata: Metadata, key: str) -> Any:
    value = metadata[key]
    if isinstance(value, list) and value and isinstance(value[0], str):
        return metadata.strings(key)  # to the byte, or refused, and not with escapes
    return float(value) if type(value) is int and key.endswith(_NUMBERS) else value


def _tokenizer(
    checkpoint: Checkpoint, cache: Cache, notice: Callable[[str], None], make: TokenizerMaker
) -> Tokenizer:
    """The checkpoint's, from that of its files which GGUF's keys can say."""
    tokenizer = checkpoint.tokenizer(cache, notice, make)
    if not isinstance(tokenizer, Tokenizer):
        raise TokenizerError(f"{checkpoint.path}: has a tokenizer that GGUF has no keys for")
    folder = checkpoint.path if is_folder(checkpoint.path) else checkpoint.path.parent
    if not is_byte_level(tokenizer) and exists(folder / FILE_NAME):
        # The library's form of SentencePiece has merges in the place of scores.
        return tokenizer_of_folder(folder / FILE_NAME, notice)
    return tokenizer


def _file_type(checkpoint: Checkpoint, wanted: Wanted) -> int:
    """llama.cpp's number for what most matrices are in."""
    from gguf import LlamaFileType

    counts: Counter[str] = Counter()
    for tensor in checkpoint.tensors.values():
        if is_matrix(tensor):
            counts[str(wanted.of(tensor, checkpoint.path)).upper()] += tensor.rows
    most = max(counts, key=lambda name: counts[name], default="F32")
    if most == "F32":
        return LlamaFileType.ALL_F32
    return getattr(LlamaFileType, f"MOSTLY_{most}", LlamaFileType.GUESSED)
