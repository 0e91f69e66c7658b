"""How much of a device's memory a network takes beside its KV state, reckoned before loading."""

from __future__ import annotations

from pipelines.common.graph.rules import LoweredGraph, element_type
from pipelines.common.ort.state import capacity
from pipelines.common.program.encoder import BATCH_TOKENS
from pipelines.common.program.runner import PREFILL_CHUNK
from pipelines.common.program.target import Deployment
from pipelines.common.targets.cuda.rules import ARITHMETIC_ATTENTION

_LIBRARIES = 256 << 20
"""Bytes that cuBLAS and the provider's kernels take for themselves; an allowance."""

_NARROWEST = 32
"""Elements of the narrowest head of an encoder, which its declaration does not tell."""

_DECODED_ROWS = 32768
"""Rows of a large matrix that the provider turns from blocks to floats at a time."""


def footprint(deployment: Deployment, graph: LoweredGraph) -> int:
    """Bytes for weights, activations and libraries.

    Constants are counted twice, since the runtime packs them beside what it is given.

    Args:
        deployment: What is to run.
        graph: Its graph.
    """
    weights = sum(
        weight.nbytes * (2 if weight.constant else 1) for weight in graph.weights if not weight.host
    )
    return weights + _activations(deployment, graph) + _LIBRARIES


def _activations(deployment: Deployment, graph: LoweredGraph) -> int:
    """A chunk of a prompt in a layer, or a step of all slots, whichever is more; and logits.

    Of a network that keeps nothing, it is what is computed of whole texts at once.
    """
    interface = deployment.interface
    element = element_type(graph.activations).itemsize
    tokens = max(PREFILL_CHUNK, deployment.slots) if interface.caches else BATCH_TOKENS
    layer = tokens * (4 * interface.hidden_size + 3 * interface.widest) * element
    # Attention in arithmetic has scores and probabilities of all pairs.
    if not interface.caches:
        heads = -(-interface.hidden_size // _NARROWEST)
        layer += 2 * tokens * heads * deployment.max_length * element
    elif any(taken.rule == ARITHMETIC_ATTENTION for taken in graph.taken):
        heads = max(cache.queries for cache in interface.caches)
        layer += 2 * tokens * heads * capacity(deployment.max_length) * element
    matrix = max(interface.widest, min(interface.vocabulary, _DECODED_ROWS))
    decoded = matrix * interface.hidden_size * element
    if not interface.caches:
        return layer + decoded
    return layer + decoded + deployment.slots * interface.vocabulary * (element + 4)
