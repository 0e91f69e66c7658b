"""How much of a device's memory a decoder takes beside its KV state, reckoned before loading."""

from __future__ import annotations

from pipelines.common.graph.rules import LoweredGraph, element_type
from pipelines.common.ort.state import capacity
from pipelines.common.program.runner import PREFILL_CHUNK
from pipelines.common.program.target import Deployment
from pipelines.common.targets.cuda.rules import ARITHMETIC_ATTENTION

_LIBRARIES = 256 << 20
"""Bytes that cuBLAS and the provider's kernels take for themselves; an allowance."""

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
    """A chunk of a prompt in a layer, or a step of all slots, whichever is more; and logits."""
    interface = deployment.interface
    element = element_type(graph.activations).itemsize
    tokens = max(PREFILL_CHUNK, deployment.slots)
    layer = tokens * (4 * interface.hidden_size + 3 * interface.widest) * element
    if any(taken.rule == ARITHMETIC_ATTENTION for taken in graph.taken):  # scores, and shares
        heads = max(cache.queries for cache in interface.caches)
        layer += 2 * tokens * heads * capacity(deployment.max_length) * element
    matrix = max(interface.widest, min(interface.vocabulary, _DECODED_ROWS))
    decoded = matrix * interface.hidden_size * element
    logits = deployment.slots * interface.vocabulary * (element + 4)
    return layer + decoded + logits
