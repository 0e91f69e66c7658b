"""How much of a device's memory a network takes, reckoned before loading."""

from __future__ import annotations

from pipelines.common.graph.rules import LoweredGraph, element_type
from pipelines.common.ort.state import capacity
from pipelines.common.program.footprint import logits_bytes, weight_bytes, working_bytes
from pipelines.common.program.target import Deployment, Footprint
from pipelines.common.targets.cuda.rules import ARITHMETIC_ATTENTION

_LIBRARIES = 256 << 20
"""Bytes that cuBLAS and the provider's kernels take for themselves; an allowance."""

_DECODED_ROWS = 32768
"""Rows of a large matrix that the provider turns from blocks to floats at a time."""


def footprint(deployment: Deployment, graph: LoweredGraph) -> Footprint:
    """Weights, KV state, activations and libraries.

    Constants are counted twice, since the runtime packs them beside what it is given.

    Args:
        deployment: What is to run.
        graph: Its graph.
    """
    interface = deployment.interface
    itemsize = element_type(graph.activations).itemsize
    matrix = max(interface.widest, min(interface.vocabulary, _DECODED_ROWS))
    all_pairs = not interface.caches or any(
        taken.rule == ARITHMETIC_ATTENTION for taken in graph.taken
    )
    return Footprint(
        weight_bytes(
            deployment.program,
            graph,
            lambda weight: 0 if weight.host else 2 if weight.constant else 1,
        ),
        graph.state_bytes * capacity(deployment.max_length),
        deployment.slots,
        working_bytes(deployment, itemsize, all_pairs=all_pairs)
        + matrix * interface.hidden_size * itemsize
        + _LIBRARIES,
        logits_bytes(deployment, itemsize),
        on_device=True,
    )
