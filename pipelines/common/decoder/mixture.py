"""The numbers of a mixture of experts, for families that have such networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.numbers import key

_MOST: Final = 2**16
"""Experts, far beyond those of any model."""


@dataclass(frozen=True)
class MixtureConfig(DecoderConfig):
    """A decoder's dimensions, and those of its experts.

    Attributes:
        experts: In each layer; 0 where feed-forward networks are dense.
        experts_used: Those that a token is given to.
        expert_width: Width inside of one; 0 for `intermediate_size`.
        expert_gating: What makes weights of a router's logits, by llama.cpp's number
            (``llama_expert_gating_func_type``): 1 a softmax over all, 2 the sigmoid of each, 3 a
            softmax over the chosen ones; 0 says nothing.
        expert_normalize: Whether the weights of a token's experts are divided by their sum.
        expert_scale: Factor on the weights; 0 is none.
    """

    experts: int = key("expert_count", 0, least=0, most=_MOST)
    experts_used: int = key("expert_used_count", 0, least=0, most=_MOST)
    expert_width: int = key("expert_feed_forward_length", 0, least=0, most=2**31 - 1)
    expert_gating: int = key("expert_gating_func", 0, least=0, most=3)
    expert_normalize: bool = key("expert_weights_norm", default=True)
    expert_scale: float = key("expert_weights_scale", 0.0, least=0.0, most=1e6)

    def problems(self) -> Iterator[str]:
        """See `DecoderConfig.problems`."""
        yield from super().problems()
        if self.experts and not 1 <= self.experts_used <= self.experts:
            yield f"a token is given to {self.experts_used} of {self.experts} experts"
