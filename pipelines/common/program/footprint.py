"""How much memory a network takes on a target, reckoned before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from pipelines.common.graph.rules import LoweredGraph, LoweredWeight
from pipelines.common.nn.interface import Interface
from pipelines.common.program.encoder import BATCH_TOKENS
from pipelines.common.program.runner import PREFILL_CHUNK
from pipelines.common.program.target import Deployment, Footprint, Program

_FLOAT32 = 4

_NARROWEST = 32
"""Elements of the narrowest head of an encoder, which its declaration does not tell."""


@runtime_checkable
class MeasuredTarget(Protocol):
    """A target that tells how much memory a network takes on it."""

    def footprint(self, deployment: Deployment) -> Footprint:
        """Reckons it; the target need not be here, nor what it is made with.

        Raises:
            LoweringError: See `Target.lower`.
            TargetError: The target cannot run the network.
        """


def weight_bytes(
    program: Program, graph: LoweredGraph, copies: Callable[[LoweredWeight], int]
) -> int:
    """Bytes of the weights of a graph; tied ones that are laid out alike are one.

    Args:
        program: What the graph is of.
        graph: The graph.
        copies: How often a weight is in memory.
    """
    alike = {program.identity(weight): weight for weight in graph.weights}
    return sum(copies(weight) * weight.nbytes for weight in alike.values())


def working_bytes(deployment: Deployment, itemsize: int, *, all_pairs: bool = False) -> int:
    """Bytes of activations and rotary tables.

    Computed at once is a layer of a chunk of a prompt, or of a step of all sequences, whichever is
    more. Of a network that keeps nothing, it is that of whole texts.

    Args:
        deployment: What is to run.
        itemsize: Bytes of an activation.
        all_pairs: Whether attention has the scores and probabilities of all pairs in memory.
    """
    interface = deployment.interface
    length = deployment.max_length
    tokens = max(PREFILL_CHUNK, deployment.slots) if interface.caches else BATCH_TOKENS
    working = tokens * (4 * interface.hidden_size + 3 * interface.widest) * itemsize
    if all_pairs:
        working += 2 * tokens * _heads(interface) * length * itemsize
    return working + sum(_FLOAT32 * length * rope.dims for rope in interface.ropes)


def logits_bytes(deployment: Deployment, itemsize: int) -> int:
    """Bytes of the logits of one sequence, as they are computed and in float32.

    Args:
        deployment: What is to run.
        itemsize: Bytes of an activation.
    """
    interface = deployment.interface
    return interface.vocabulary * (itemsize + _FLOAT32) if interface.caches else 0


def _heads(interface: Interface) -> int:
    """Heads of the layer that has the most of them."""
    if interface.caches:
        return max(cache.queries for cache in interface.caches)
    return -(-interface.hidden_size // _NARROWEST)
