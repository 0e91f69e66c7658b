"""Feed-forward networks of which a router chooses some for each token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipelines.common import ops
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.mixture import MixtureConfig
from pipelines.common.nn.layers import Linear, SwiGLU
from pipelines.common.nn.module import Module, parameter
from pipelines.common.ops.experts import Routing

if TYPE_CHECKING:
    from torch import Tensor

_ROUTINGS: Final[dict[int, Routing]] = {1: "softmax_topk", 2: "sigmoid", 3: "topk_softmax"}
"""By `MixtureConfig.expert_gating`."""


class Stack(Module):
    """A matrix for each expert, with a bias for each if the checkpoint has them.

    Args:
        config: The decoder's dimensions.
        tensor: Name of its tensors without ``.weight`` and ``.bias``.
        inputs: Width of what goes into one.
        outputs: Width of what comes out.
    """

    def __init__(self, config: MixtureConfig, tensor: str, inputs: int, outputs: int) -> None:
        shape = (config.experts, outputs)
        self.weight = parameter(*shape, inputs, tensor=f"{tensor}.weight", kind="experts")
        self.bias = parameter(*shape, tensor=f"{tensor}.bias") if tensor in config.biases else None


class Experts(Module):
    """A mixture of gated feed-forward networks, see `pipelines.common.ops.experts`.

    Args:
        config: The decoder's dimensions.
        shared: What every token is given to besides, ``x -> x``.
        alpha: Factor inside of the gate's sigmoid.
        limit: What the gate's input is at most, and what it multiplies in either direction; 0 for
            no such.
        offset: What is added to what the gate multiplies.
    """

    def __init__(
        self,
        config: MixtureConfig,
        shared: Module | None = None,
        *,
        alpha: float = 1.0,
        limit: float = 0.0,
        offset: float = 0.0,
    ) -> None:
        router, width = "ffn_gate_inp", config.hidden_size
        inner = config.expert_width or config.intermediate_size
        self.router = Linear(
            width, config.experts, router, bias=router in config.biases, kind="router"
        )
        self.gate = Stack(config, "ffn_gate_exps", width, inner)
        self.up = Stack(config, "ffn_up_exps", width, inner)
        self.down = Stack(config, "ffn_down_exps", inner, width)
        self.shared = shared
        self.alpha, self.limit, self.offset = alpha, limit, offset
        self.used = config.experts_used
        self.routing = _ROUTINGS.get(config.expert_gating, "softmax_topk")
        self.normalize = int(config.expert_normalize)
        self.scale = config.expert_scale or 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Transforms each vector of ``[batch, sequence, hidden_size]`` by itself."""
        mixed = ops.experts(
            x,
            self.router(x),
            *(self.gate.weight, self.up.weight, self.down.weight),
            used=self.used,
            routing=self.routing,
            normalize=self.normalize,
            scale=self.scale,
            gate_bias=self.gate.bias,
            up_bias=self.up.bias,
            down_bias=self.down.bias,
            alpha=self.alpha,
            limit=self.limit,
            offset=self.offset,
        )
        return mixed if self.shared is None else mixed + self.shared(x)


class SharedExpert(Module):
    """The expert of every token, scaled by a gate of its own: ``sigmoid(g x) * expert(x)``.

    Args:
        hidden_size: Width of what comes in and goes out.
        inner: Width inside.
    """

    def __init__(self, hidden_size: int, inner: int) -> None:
        self.gate = Linear(hidden_size, inner, "ffn_gate_shexp")
        self.up = Linear(hidden_size, inner, "ffn_up_shexp")
        self.down = Linear(inner, hidden_size, "ffn_down_shexp")
        self.scale = Linear(hidden_size, 1, "ffn_gate_inp_shexp", kind="router")

    def forward(self, x: Tensor) -> Tensor:
        """Transforms each vector of ``[batch, sequence, hidden_size]`` by itself."""
        made: Tensor = self.down(ops.silu(self.gate(x)) * self.up(x))
        return made * self.scale(x).sigmoid()


def feed_forward(config: DecoderConfig) -> Module:
    """What a layer has behind its attention: `Experts` where a model has any, `SwiGLU` elsewhere.

    Args:
        config: The decoder's dimensions; those of a family that reads no numbers of experts has
            none.
    """
    if isinstance(config, MixtureConfig) and config.experts:
        return Experts(config)
    return SwiGLU(config)
