"""Stage 1: traces a decoder into the neutral graph.

The graph's inputs are the decoder's arguments followed by its parameters under their own names; no
weight is read or made up. Its nodes are neutral operators and the standard ONNX operators that the
exporter makes of the torch code between them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.ops import OPERATORS


def build(network: Callable[[], nn.Module], config: DecoderConfig) -> ir.Model:
    """The neutral graph of the decoder that `network` makes.

    Batch, sequence, KV capacity and the number of wanted positions stay dynamic.
    """
    batch, sequence, capacity, wanted = (
        torch.export.Dim(name) for name in ("batch", "sequence", "capacity", "wanted")
    )
    positions = torch.export.Dim("positions")
    state = {0: batch, 2: capacity}
    dynamic = (
        {0: batch, 1: sequence},
        {0: batch},
        {0: batch},
        {0: batch, 1: wanted},
        {0: positions},
        {0: positions},
        [state] * config.layers,
        [state] * config.layers,
    )
    names = input_names(config)
    # Fake tensors have shapes and no memory, so an 8B network costs no more than a small one.
    with FakeTensorMode(shape_env=ShapeEnv()), torch.no_grad(), _quiet_exporter():
        module = network()
        program = torch.export.export(
            module, _example(config), dynamic_shapes=dynamic, strict=False
        )
        program = program.run_decompositions(
            {operator.overload: operator.emit for operator in OPERATORS.values()}
        )
        exported = torch.onnx.export(
            program,
            (),
            input_names=names,
            output_names=output_names(config),
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert exported is not None
    return _weights_as_inputs(exported.model, names)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keeps back what the exporter says about itself: nothing that a user could act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def input_names(config: DecoderConfig) -> list[str]:
    """The graph's inputs before its weights, in the order of the decoder's arguments."""
    return [
        *("tokens", "past", "total", "wanted", "cos", "sin"),
        *(f"key.{layer}" for layer in range(config.layers)),
        *(f"value.{layer}" for layer in range(config.layers)),
    ]


def output_names(config: DecoderConfig) -> list[str]:
    """The graph's outputs, in the order of the decoder's results."""
    return [
        "logits",
        *(f"new_key.{layer}" for layer in range(config.layers)),
        *(f"new_value.{layer}" for layer in range(config.layers)),
    ]


def _example(config: DecoderConfig) -> tuple[Any, ...]:
    """Arguments whose sizes all differ, so that no two dimensions are taken for one."""
    batch, sequence, capacity, wanted, positions = 2, 3, 11, 5, 13
    angles = (positions, config.head_dim // 2)
    state = (batch, config.kv_heads, capacity, config.head_dim)
    return (
        torch.empty(batch, sequence, dtype=torch.int64),
        torch.empty(batch, dtype=torch.int32),
        torch.empty(batch, dtype=torch.int32),
        torch.empty(batch, wanted, dtype=torch.int64),
        torch.empty(angles),
        torch.empty(angles),
        [torch.empty(state) for _ in range(config.layers)],
        [torch.empty(state) for _ in range(config.layers)],
    )


def _weights_as_inputs(model: ir.Model, names: list[str]) -> ir.Model:
    """Turns the parameters' fake initializers into inputs of the same name."""
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        del graph.initializers[name]
        value.const_value = None
        graph.inputs.append(value)
    dimensions = {
        ("tokens", 0): "batch",
        ("tokens", 1): "sequence",
        ("wanted", 1): "wanted",
        ("cos", 0): "positions",
        ("key.0", 2): "capacity",
    }
    by_name = {value.name: value for value in graph.inputs}
    renamed = {}
    for (name, axis), dimension in dimensions.items():
        shape = by_name[name].shape
        assert shape is not None
        renamed[str(shape[axis])] = dimension
    for value in _values(graph):
        if value.shape is not None:
            value.shape = ir.Shape(
                [
                    size if isinstance(size, int) else renamed.get(str(size), str(size))
                    for size in value.shape
                ]
            )
    assert [value.name for value in graph.inputs][: len(names)] == names
    return model


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(output for node in graph for output in node.outputs)]
