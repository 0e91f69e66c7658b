"""Runs a handful of neutral operators on the cpu target, without a model around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from random_blocks import random_blocks

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.checkpoints.table import Weight
from pipelines.common.encodings import ENCODINGS, Encoding
from pipelines.common.graph.lower import lower
from pipelines.common.graph.rules import PLACEHOLDER, LoweredGraph, Rule
from pipelines.common.ops import DOMAIN
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.program.tensors import make_tensors, named
from pipelines.common.program.weights import WeightSource
from pipelines.common.targets.cpu.rules import RULES

Array = NDArray[Any]


@dataclass(frozen=True)
class Matrix:
    """A weight matrix as a model file holds it."""

    encoding: Encoding
    bytes: NDArray[np.uint8]

    @classmethod
    def random(cls, encoding: str, rows: int, columns: int, seed: int = 0) -> Matrix:
        """Any bytes are a block; only its binary16 scales are kept from being large or nan."""
        kind = ENCODINGS[encoding]
        generator = np.random.default_rng(seed)
        if kind.block_size == 1:
            values = generator.normal(0, 0.1, (rows, columns)).astype(np.float32)
            raw = gguf.quantize(values, gguf.GGMLQuantizationType(kind.ggml_type)).view(np.uint8)
            return cls(kind, raw.reshape(rows, -1))
        blocks = random_blocks(kind, rows * columns // kind.block_size, generator)
        return cls(kind, blocks.reshape(rows, -1))

    @property
    def values(self) -> NDArray[np.float32]:
        """As the `gguf` package decodes it."""
        kind = gguf.GGMLQuantizationType(self.encoding.ggml_type)
        dtype = {"f32": np.float32, "f16": np.float16}.get(self.encoding.name, np.uint8)
        return gguf.dequantize(self.bytes.view(dtype), kind)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bytes.shape[0], self.encoding.row_length(self.bytes.shape[1])


def stored(path: Path, matrices: Mapping[str, Matrix]) -> WeightSource:
    """Weights in a file, to run as stored; one matrix under two names is tied."""
    tensors = {id(matrix): name for name, matrix in matrices.items()}
    writer = gguf.GGUFWriter(path, "test")
    for name in tensors.values():
        matrix = matrices[name]
        kind = gguf.GGMLQuantizationType(matrix.encoding.ggml_type)
        writer.add_tensor(name, matrix.bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    table = [
        Weight(name, tensors[id(matrix)], matrix.shape, "linear")
        for name, matrix in matrices.items()
    ]
    return WeightSource(open_gguf(path), table, "auto", Cache.default(), warn=pytest.fail)


@dataclass(frozen=True)
class Operator:
    """A node: its type, what goes in by name, its results with their shapes, its attributes."""

    type: str
    inputs: Sequence[str]
    outputs: Mapping[str, tuple[int | str, ...]]
    attributes: Mapping[str, int | float] = field(default_factory=dict)


def lowered(
    operators: Sequence[Operator],
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    weights: Mapping[str, Matrix] | None = None,
    rules: Sequence[Rule] = RULES,
    activations: str = "float32",
) -> LoweredGraph:
    """A graph of neutral operators, lowered.

    Args:
        operators: In the order in which they run.
        inputs: Examples of the graph's inputs; only their last dimension is fixed.
        outputs: Names of the graph's outputs.
        weights: Weights by name.
        rules: What to lower with.
        activations: The type of the activations.
    """
    weights = weights or {}
    values = {
        name: ir.Value(
            name=name,
            shape=ir.Shape([*(f"{name}_{axis}" for axis in range(x.ndim - 1)), x.shape[-1]]),
            type=ir.TensorType(ir.DataType.from_numpy(x.dtype)),
        )
        for name, x in inputs.items()
    }
    values |= {
        name: ir.Value(
            name=name, shape=ir.Shape(matrix.shape), type=ir.TensorType(ir.DataType.FLOAT)
        )
        for name, matrix in weights.items()
    }
    graph_inputs, nodes = list(values.values()), []
    for operator in operators:
        results = [
            ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
            for name, shape in operator.outputs.items()
        ]
        nodes.append(
            ir.node(
                operator.type,
                [values[name] for name in operator.inputs],
                operator.attributes,
                domain=DOMAIN,
                outputs=results,
            )
        )
        values |= dict(zip(operator.outputs, results, strict=True))
    graph = ir.Graph(
        graph_inputs,
        [values[name] for name in outputs],
        nodes=nodes,
        opset_imports={"": 20, DOMAIN: 1},
        name="operators",
    )
    encodings = {name: matrix.encoding for name, matrix in weights.items()}
    return lower(ir.Model(graph, ir_version=10), rules, encodings, "cpu", activations)


def compute(
    tmp_path: Path,
    graph: LoweredGraph,
    inputs: Mapping[str, Array],
    weights: Mapping[str, Matrix] | None = None,
) -> list[Array]:
    """Runs a lowered graph."""
    source = stored(tmp_path / "weights.gguf", weights or {})
    tensors = named(make_tensors(source, graph.weights, LAYOUTS))
    options = ort.SessionOptions()
    constants = {
        weight.name: ort.OrtValue.ortvalue_from_numpy(tensors.pop(weight.name))
        for weight in graph.weights
        if weight.constant
    }
    for name, value in constants.items():
        options.add_initializer(name, value)
    (tmp_path / PLACEHOLDER).touch()
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(tmp_path)
    )
    session = ort.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    feeds = {name: value for name, value in {**inputs, **tensors}.items() if name in wanted}
    return session.run(None, feeds)


def quantized_activations(x: Array, block: int) -> NDArray[np.float64]:
    """What ONNX Runtime's block products make of activations at accuracy level 4 on x86.

    Eight bits, symmetric, a scale for each `block` elements; rounding is to the nearest even.

    Source: QuantizeARow_CompInt8 in onnxruntime/core/mlas/lib/sqnbitgemm_kernel_avx2.cpp.
    """
    blocks = x.reshape(*x.shape[:-1], -1, block)
    largest = np.abs(blocks).max(-1, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    scale = (largest / np.float32(127)).astype(np.float64)
    return (np.rint(blocks * inverse) * scale).reshape(x.shape)
