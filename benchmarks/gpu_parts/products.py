"""How fast products with single weights are, each for itself, for `benchmarks.gpu`.

Against what the same products take in a model this tells whether a kernel holds decoding back, or
what is between kernels. A session computes many of one shape, each with a weight of its own: more
than the caches hold, and enough that starting the session's run does not count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch  # noqa: F401 - brings CUDA's libraries, wherever they are installed
from onnx import helper, numpy_helper

from benchmarks.gpu_parts.model import make_target
from benchmarks.gpu_parts.part import Part, Recorder, Settings
from benchmarks.random_gguf import SHAPES, Shape
from benchmarks.report import median
from pipelines.common.errors import TargetError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.ort.emit import MICROSOFT
from pipelines.common.ort.session import CPU, Provider, make_session
from pipelines.common.targets.cuda.memory import Memory, run

Tensors: TypeAlias = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Shapes and element types of tensors by name."""

_RUNS = 20


@dataclass(frozen=True)
class Product:
    """A product with a weight ``[rows, width]``.

    Attributes:
        use: What it is for in a decoder.
        rows: Rows of the weight.
        width: Their length.
        bits: Of a code; 16 for a weight in float16.
        block: Elements that share a scale; 0 for a weight in float16.
        packed: Whether the runtime packs the weight for its fused kernels.
    """

    use: str
    rows: int
    width: int
    bits: int = 16
    block: int = 0
    packed: bool = False

    @property
    def format(self) -> str:
        """What the weight is in."""
        blocks = f"{self.bits} bits in blocks of {self.block}" if self.block else "float"
        return f"{blocks}, packed" if self.packed else blocks


def products(part: Part, settings: Settings, recorder: Recorder) -> None:
    """Records the time of each product of a model, for each number of sequences.

    Raises:
        TargetError: The target cannot run here.
    """
    found = make_target(settings, {}).availability()  # which also loads what the provider needs
    if not found.here:
        raise TargetError(found.reason)
    for product in _products(SHAPES[part.shape]):
        with recorder.attempt(f"{product.use}, {product.format}"):
            _measure(product, part, settings, recorder)


def _products(shape: Shape) -> Iterator[Product]:
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    uses = {
        "gate, up": (shape.inner, shape.hidden),
        "down": (shape.hidden, shape.inner),
        "query, output": (query, shape.hidden),
        "key, value": (key, shape.hidden),
    }
    head = ("vocabulary", shape.vocabulary, shape.hidden)
    for use, (rows, width) in uses.items():
        yield Product(use, rows, width, bits=4, block=32)
        yield Product(use, rows, width, bits=4, block=32, packed=True)
        yield Product(use, rows, width)
    yield Product(*head, bits=8, block=16)
    yield Product(*head)


def _measure(product: Product, part: Part, settings: Settings, recorder: Recorder) -> None:
    on_gpu = settings.target == "cuda"
    kind = np.dtype(np.float16 if on_gpu else np.float32)
    weights = _weights(product, kind)
    nbytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in weights.values())
    count = -(-settings.product_bytes // nbytes)
    model = _model(product, weights, count, kind)
    provider = CPU
    if on_gpu:
        entries = {"ep.cuda.fpa_intb_gemm": str(int(product.packed))}
        provider = Provider("CUDAExecutionProvider", {"enable_cuda_graph": "1"}, entries)
    session = make_session(LoweredGraph(model, ()), {}, provider)
    memory = Memory(settings.target, 0)
    constant = [
        (f"{name}{index}", memory.allocate(shape, dtype), dtype, shape)
        for index in range(0 if product.packed else count)
        for name, (shape, dtype) in weights.items()
    ]
    for graph, batch in enumerate(settings.batches, 1):
        shape: tuple[int, ...] = (batch, 1, product.width)
        x = memory.holding(np.random.default_rng(0).normal(size=shape).astype(kind))
        inputs = [("x", x, kind, shape), *constant]
        shape = (batch, 1, product.rows)
        outputs = [
            (f"y{index}", memory.allocate(shape, kind), kind, shape) for index in range(count)
        ]
        binding = session.io_binding()
        for bind, values in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, value, dtype, shape in values:
                memory.bind(bind, name, value.data_ptr(), dtype, shape)
        times = []
        for _ in range(_RUNS):
            begin = time.perf_counter()
            run(session, binding, graph if on_gpu else None)
            times.append(time.perf_counter() - begin)
        recorder.record(
            "product",
            shape=part.shape,
            use=product.use,
            format=product.format,
            rows=product.rows,
            width=product.width,
            batch=batch,
            bytes=nbytes,
            microseconds=1e6 * median(times) / count,
        )


def _weights(product: Product, kind: np.dtype[Any]) -> Tensors:
    """The weights of one product; their names get its number."""
    rows, width, block = product.rows, product.width, product.block
    if not block:
        return {"weight": ((rows, width), kind)}
    codes = (rows, width // block, block * product.bits // 8)
    return {"codes": (codes, np.dtype(np.uint8)), "scales": ((rows, width // block), kind)}


def _model(product: Product, weights: Tensors, count: int, kind: np.dtype[Any]) -> bytes:
    """A model of `count` products of one input ``x``, with outputs ``y0``, ``y1`` and so on."""
    floats = helper.np_dtype_to_tensor_dtype(kind)
    operator = "FusedMatMul"
    attributes: dict[str, Any] = {"transB": 1}
    if product.block:
        operator = "MatMulNBits"
        attributes = {
            "K": product.width,
            "N": product.rows,
            "bits": product.bits,
            "block_size": product.block,
        }
    nodes, inputs, constants, outputs = [], [], [], []
    inputs.append(helper.make_tensor_value_info("x", floats, ["batch", 1, product.width]))
    generator = np.random.default_rng(0)
    for index in range(count):
        for name, (shape, dtype) in weights.items():
            if product.packed:
                values = generator.integers(256, size=shape, dtype=np.uint8)
                constants.append(numpy_helper.from_array(values.astype(dtype), f"{name}{index}"))
            else:
                element = helper.np_dtype_to_tensor_dtype(dtype)
                inputs.append(helper.make_tensor_value_info(f"{name}{index}", element, shape))
        nodes.append(
            helper.make_node(
                operator,
                ["x", *(f"{name}{index}" for name in weights)],
                [f"y{index}"],
                domain=MICROSOFT,
                **attributes,
            )
        )
        outputs.append(
            helper.make_tensor_value_info(f"y{index}", floats, ["batch", 1, product.rows])
        )
    graph = helper.make_graph(nodes, "products", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
