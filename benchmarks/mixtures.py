"""Which encodings llama.cpp mixes in the files that it calls Q4_0, Q4_K_M and so on.

Source: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType


def _plain(_layer: int, _layers: int) -> bool:
    return False


def _some(layer: int, layers: int) -> bool:
    """The first and the last eighth, and a third of those between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _first(layer: int, layers: int) -> bool:
    return layer < layers // 8


def _every(_layer: int, _layers: int) -> bool:
    return True


@dataclass(frozen=True)
class Mixture:
    """What the matrices of a file are in.

    Attributes:
        file_type: llama.cpp's number for such files.
        most: What most of them are in.
        more: What those are in that get more bits.
        values: Whether the matrix of a layer's values gets more, of a model whose key-value heads
            have four query heads each or more.
        down: The same of the second matrix of the feed-forward part.
    """

    file_type: LlamaFileType
    most: Type
    more: Type = Type.Q6_K
    values: Callable[[int, int], bool] = _plain
    down: Callable[[int, int], bool] = _plain

    @property
    def head(self) -> Type:
        """What the output matrix is in, and the embedding that is one."""
        kept = (Type.F32, Type.F16, Type.BF16, Type.Q8_0)
        return self.most if self.most in kept else Type.Q6_K

    def of_layer(self, part: str, layer: int, layers: int) -> Type:
        """What a matrix of a layer is in, of which `part` is the name, as ``attn_v``."""
        wants_more = {"attn_v": self.values, "ffn_down": self.down}.get(part, _plain)
        return self.more if wants_more(layer, layers) else self.most


_File = LlamaFileType

MIXTURES = {
    "q4_0": Mixture(_File.MOSTLY_Q4_0, Type.Q4_0),
    "q5_1": Mixture(_File.MOSTLY_Q5_1, Type.Q5_1),
    "q8_0": Mixture(_File.MOSTLY_Q8_0, Type.Q8_0),
    "q4_k_m": Mixture(_File.MOSTLY_Q4_K_M, Type.Q4_K, values=_some, down=_some),
    "q5_k_m": Mixture(_File.MOSTLY_Q5_K_M, Type.Q5_K, values=_some, down=_some),
    "q6_k": Mixture(_File.MOSTLY_Q6_K, Type.Q6_K),
    "iq4_nl": Mixture(_File.MOSTLY_IQ4_NL, Type.IQ4_NL, Type.Q5_K, values=_every, down=_first),
    "iq4_xs": Mixture(_File.MOSTLY_IQ4_XS, Type.IQ4_XS, Type.Q5_K, values=_every, down=_first),
    "f16": Mixture(_File.MOSTLY_F16, Type.F16),
    "bf16": Mixture(_File.MOSTLY_BF16, Type.BF16),
    "f32": Mixture(_File.ALL_F32, Type.F32),
}
"""By the names that people know the files by."""
