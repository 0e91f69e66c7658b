"""What each tensor of a file that is written is stored in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipelines.common.checkpoints.checkpoint import TensorInfo
from pipelines.common.encodings import BF16, ENCODINGS, F16, F32, Q8_0, Encoding, advice
from pipelines.common.errors import ModelFileError, quoted

REQUESTS: Final = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "f16", "bf16")
"""What matrices can be written in: what the `gguf` package writes as ggml does."""

OUTPUTS: Final = ("token_embd.weight", "per_layer_token_embd.weight", "output.weight")
"""Embeddings and output matrix, whose errors no other matrix makes good."""

_VECTORS: Final = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_inp_shexp.weight",
    "position_embd.weight",
    "token_types.weight",
    "ssm_conv1d.weight",
    "shortconv.conv.weight",
)
"""Ends of the names of what may have rows and is no matrix to be written in blocks: small, and
added or multiplied with, or deciding among experts. llama.cpp leaves the same alone
(``tensor_allows_quantization`` in ``src/llama-quant.cpp``)."""


def unknown_request(name: str) -> str:
    """Why a name cannot be asked for, and what can be."""
    reason = "nothing writes it" if name in ENCODINGS else "there is none of that name"
    *most, last = REQUESTS
    return f"{name}: {reason}; expected {', '.join(most)} or {last}"


@dataclass(frozen=True)
class Wanted:
    """What matrices are to be written in; None for what they are stored in.

    Attributes:
        matrices: All but the `OUTPUTS`.
        outputs: Those.
    """

    matrices: Encoding | None = None
    outputs: Encoding | None = None

    @classmethod
    def named(cls, encoding: str, outputs: str | None) -> Wanted:
        """By the names that users have for them.

        Args:
            encoding: One of `REQUESTS`.
            outputs: One of them; None for 8 bits where `encoding` has fewer, and else the same.
        """
        matrices = ENCODINGS[encoding]
        usual = matrices if matrices in (F16, BF16) else Q8_0
        return cls(matrices, usual if outputs is None else ENCODINGS[outputs])

    def of(self, tensor: TensorInfo, source: Path) -> Encoding:
        """What one tensor is written in.

        Blocks are kept where they have no more bits than those that are asked for: to encode them
        anew would only lose what they hold.

        Args:
            tensor: As it is stored.
            source: Where, for messages.

        Raises:
            ModelFileError: It is in an encoding that is only listed, or has rows that the blocks
                do not divide.
        """
        stored = tensor.encoding
        if not stored.supported:
            raise ModelFileError(f"{source}: tensor {quoted(tensor.name)}: {advice(stored)}")
        if not is_matrix(tensor):
            return F32
        wanted = self.outputs if tensor.name in OUTPUTS else self.matrices
        kept = wanted is None or (stored.coded and wanted.coded and stored.bits <= wanted.bits)
        if wanted is None or kept:
            return stored
        if tensor.row_length % wanted.block_size:
            raise ModelFileError(
                f"{source}: tensor {quoted(tensor.name)} has rows of {tensor.row_length} elements,"
                f" which {wanted}'s blocks of {wanted.block_size} do not divide; use f16 or bf16"
            )
        return wanted


def is_matrix(tensor: TensorInfo) -> bool:
    """Whether a tensor may be something else than float32 in a file that is written."""
    name = tensor.name
    return tensor.rows > 1 and name.endswith(".weight") and not name.endswith(_VECTORS)
