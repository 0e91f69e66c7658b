"""Graphs of one node of the native kernels, with what they are fed."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from random_blocks import random_blocks

from pipelines.common.encodings import ENCODINGS
from pipelines.common.errors import OpPackageError
from pipelines.common.program.package import LoadedPackage
from pipelines.common.registry.registry import Registry

DOMAIN = "pipelines.native"


@dataclass(frozen=True)
class Node:
    """A node and its inputs by name, in order; None leaves one out.

    Attributes:
        operator: The operator.
        inputs: What it is fed.
        attributes: Its attributes.
        outputs: Names of its results; an empty one leaves one out.
        constants: Inputs that the graph has as initializers.
    """

    operator: str
    inputs: Mapping[str, NDArray[Any] | None]
    attributes: Mapping[str, Any]
    outputs: Sequence[str] = ("y",)
    constants: Collection[str] = ()

    @property
    def given(self) -> dict[str, NDArray[Any]]:
        """The inputs that are not left out."""
        return {name: array for name, array in self.inputs.items() if array is not None}

    def session(self, library: Path, threads: int = 1) -> ort.InferenceSession:
        """A session of the node alone, which knows no shapes beforehand."""
        node = onnx.helper.make_node(
            self.operator,
            [name if array is not None else "" for name, array in self.inputs.items()],
            self.outputs,
            domain=DOMAIN,
            **self.attributes,
        )
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                onnx.helper.make_tensor_value_info(
                    name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), None
                )
                for name, array in self.given.items()
                if name not in self.constants
            ],
            [onnx.ValueInfoProto(name=name) for name in self.outputs if name],
            [onnx.numpy_helper.from_array(self.given[name], name) for name in self.constants],
        )
        opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(DOMAIN, 1)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(str(library))
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, library: Path, threads: int = 1) -> list[NDArray[Any]]:
        """The node's results."""
        feeds = {name: array for name, array in self.given.items() if name not in self.constants}
        return self.session(library, threads).run(None, feeds)


@functools.cache
def _native() -> LoadedPackage:
    try:
        registry = Registry.discover()
        return registry.packages.load(registry.packages.typed("native"))
    except OpPackageError as error:
        pytest.skip(f"the native kernels cannot be used: {error}", allow_module_level=True)


def kernels() -> Path:
    """The library, which has to be there; the installation builds it with a compiler."""
    library = _native().library
    assert library is not None
    return library


def normal(generator: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return generator.normal(0, 1, shape).astype(np.float32)


def stored(
    generator: np.random.Generator, encoding: str, rows: int, columns: int
) -> NDArray[np.uint8]:
    """A matrix as a file holds it, its scales about a hundredth."""
    kind = ENCODINGS[encoding]
    if kind.block_size == 1:
        values = normal(generator, rows, columns)
        raw = gguf.quantize(values, gguf.GGMLQuantizationType(kind.ggml_type))
        return raw.view(np.uint8).reshape(rows, -1)
    blocks = random_blocks(kind, rows * columns // kind.block_size, generator)
    return blocks.reshape(rows, -1)


def matrix(
    generator: np.random.Generator, encoding: str, rows: int, columns: int
) -> NDArray[np.uint8]:
    """A matrix as products read it: packed into tiles if it has blocks."""
    raw = stored(generator, encoding, rows, columns)
    if ENCODINGS[encoding].block_size == 1:
        return raw
    packed: NDArray[np.uint8] = _native().contents.layouts["tiles"](ENCODINGS[encoding], raw)
    return packed


def linear(
    encoding: str,
    *,
    tokens: int = 3,
    rows: int = 40,
    columns: int = 256,
    weights: int = 1,
    norm: bool = False,
    residual: bool = False,
    gated: int = 0,
) -> Node:
    generator = np.random.default_rng(tokens)
    names = [f"w{i}" for i in range(weights)]
    inputs = {"x": normal(generator, 1, tokens, columns)}
    inputs |= {name: matrix(generator, encoding, rows, columns) for name in names}
    if norm:
        inputs["norm"] = normal(generator, columns)
    if residual:
        inputs["residual"] = normal(generator, 1, tokens, rows)
    numbers = {"encoding": ENCODINGS[encoding].ggml_type, "rows": rows}
    of_weights = {f"{name}_{i}": value for i in range(weights) for name, value in numbers.items()}
    attributes = {
        "columns": columns,
        "weights": weights,
        "norm": int(norm),
        "epsilon": 1e-5,
        "residual": int(residual),
        "gated": gated,
        **of_weights,
    }
    outputs = ["y"] if gated else [f"y{i}" for i in range(weights)]
    return Node("Linear", inputs, attributes, outputs, names)


def embedding(encoding: str, *, rows: int = 20, columns: int = 256) -> Node:
    generator = np.random.default_rng(0)
    inputs = {
        "tokens": generator.integers(rows, size=(2, 5)),
        "table": stored(generator, encoding, rows, columns),
    }
    attributes = {"encoding": ENCODINGS[encoding].ggml_type, "columns": columns}
    return Node("Embedding", inputs, attributes, constants=("table",))


def experts(
    encoding: str,
    *,
    tokens: int = 3,
    count: int = 4,
    routing: int = 0,
    biased: bool = False,
    limit: float = 0.0,
) -> Node:
    generator = np.random.default_rng(tokens)
    columns, inner = 256, 512
    inputs: dict[str, NDArray[Any] | None] = {
        "x": normal(generator, 1, tokens, columns),
        "logits": normal(generator, 1, tokens, count),
        "gate": matrix(generator, encoding, count * inner, columns),
        "up": matrix(generator, encoding, count * inner, columns),
        "down": matrix(generator, encoding, count * columns, inner),
    }
    if biased:
        inputs |= {
            "gate_bias": normal(generator, count, inner),
            "up_bias": normal(generator, count, inner),
            "down_bias": normal(generator, count, columns),
        }
    attributes = {
        "columns": columns,
        "inner": inner,
        "experts": count,
        "used": 2,
        "routing": routing,
        "normalize": 1,
        "scale": 1.0,
        "biased": int(biased),
        "alpha": 1.702 if biased else 1.0,
        "limit": limit,
        "offset": 1.0 if biased else 0.0,
        **{f"encoding_{i}": ENCODINGS[encoding].ggml_type for i in range(3)},
    }
    return Node("Experts", inputs, attributes, constants=tuple(inputs)[2:])


def attention(
    name: str = "RotaryAttention",
    *,
    head_dim: int = 64,
    value_dim: int = 0,
    tokens: int = 3,
    past: Sequence[int] = (0, 5),
    capacity: int = 32,
    interleaved: bool = False,
    window: int = 0,
    cap: float = 0.0,
    sinks: bool = False,
) -> Node:
    """Four heads on two; of the last sequence the last token is padding.

    A `value_dim` of 0 is `head_dim`.
    """
    value_dim = value_dim or head_dim
    generator = np.random.default_rng(head_dim + tokens)
    batch = len(past)
    dtype = np.float32 if name.endswith("Float32") else np.float16
    inputs: dict[str, NDArray[Any] | None] = {
        part: normal(generator, batch, tokens, heads * width)
        for part, heads, width in (
            ("query", 4, head_dim),
            ("key", 2, head_dim),
            ("value", 2, value_dim),
        )
    }
    for part, width in (("past_key", head_dim), ("past_value", value_dim)):
        inputs[part] = normal(generator, batch, 2, capacity, width).astype(dtype)
    inputs["past"] = np.array(past, np.int32)
    inputs["total"] = inputs["past"] + np.int32(tokens)
    if tokens > 1:
        inputs["total"][-1] -= 1
    if name.startswith("Rotary"):
        angles = generator.uniform(0, 7, (capacity, head_dim // 2))
        inputs |= {"cos": np.float32(np.cos(angles)), "sin": np.float32(np.sin(angles))}
    if sinks:
        inputs["sinks"] = normal(generator, 4)
    attributes = {
        "head_dim": head_dim,
        "value_dim": value_dim,
        "scale": head_dim**-0.5,
        "interleaved": int(interleaved),
        "window": window,
        "cap": cap,
    }
    return Node(name, inputs, attributes, ("mixed", "new_key", "new_value"))
