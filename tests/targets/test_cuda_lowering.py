"""What is made for CUDA is what its provider has, and computes on the CPU what it should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from operator_graphs import Matrix, Operator, compute, lowered
from tiny_models import MIXED, llama, open_model, random_tokens, write_gguf

from pipelines.common import ops
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.encodings import BF16, BLOCKS, F16, F32, Q4_0, Encoding
from pipelines.common.errors import LoweringError
from pipelines.common.graph.build import build
from pipelines.common.graph.lower import lower
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.importing import import_from
from pipelines.common.ops import DOMAIN
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.ort.session import CPU, make_session
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Deployment
from pipelines.common.rotary.rope import Rope
from pipelines.common.targets import cuda
from pipelines.common.targets.cuda import CudaTarget
from pipelines.common.targets.cuda.footprint import footprint
from pipelines.common.targets.cuda.memory import Memory, upload
from pipelines.common.targets.cuda.rules import activation_type, rules
from pipelines.common.targets.cuda.runner import CudaRunner

QWEN3 = DecoderConfig(40, 128, 64, 96, 2, 4, 2, 32, 1e-5, Rope(32, 500000.0))

PROMPTS = [random_tokens(24, seed) for seed in range(4)]

KINDS: Mapping[str, tuple[Type, Mapping[str, Type] | None]] = {
    "f32": (Type.F32, None),
    "f16": (Type.F16, None),
    "bf16": (Type.BF16, None),
    "q8_0": (Type.Q8_0, None),
    "q4_0": (Type.Q4_0, {"token_embd.weight": Type.Q4_1}),
    "mixed": (Type.Q4_0, MIXED),
}


@dataclass(frozen=True)
class Case:
    """A model file lowered for CUDA, each weight in the encoding that it is stored in."""

    path: Path
    deployment: Deployment
    graph: LoweredGraph

    def on_the_cpu(self) -> Runner:
        """The target's runner and graph, on the CPU provider."""
        memory = Memory("cpu", 0)
        tensors = upload(self.deployment.program.tensors(self.graph, LAYOUTS), memory)
        session = make_session(self.graph, {}, CPU)
        return CudaRunner(
            session, self.deployment, self.graph, tensors, memory, graph_capture=False
        )


@pytest.fixture(scope="module")
def qwen3() -> onnx.ModelProto:
    """The neutral graph of Qwen 3; lowering would use it up."""
    network = import_from(Path(__file__).parents[2] / "plugins" / "qwen3" / "model.py")
    return ir.to_proto(build(network.build(QWEN3)))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder, model = tmp_path_factory.mktemp("models"), llama()
    made = {}
    for name, (kind, exceptions) in KINDS.items():
        path = write_gguf(folder / f"{name}.gguf", model, kind, exceptions=exceptions)
        deployment = open_model(path, encoding="auto").deployment(slots=3, max_length=40)
        made[name] = Case(path, deployment, CudaTarget().lower(deployment))
    return made


def operators(graph: LoweredGraph) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(graph.model).graph.node)


def test_activations_have_the_type_that_holds_the_weights() -> None:
    assert activation_type({"f32"}) == "float32"
    assert activation_type({"f32", "f16"}) == "float16"
    assert activation_type({"f32", "q4_0", "q6_k"}) == "float16"
    assert activation_type({"f32", "bf16", "q8_0"}) == "bfloat16"


@pytest.mark.parametrize("name", KINDS)
def test_provider_has_every_operator_with_its_types(cases: dict[str, Case], name: str) -> None:
    graph = cases[name].graph
    cuda.CHECK(graph)
    assert graph.activations == {"f32": "float32", "bf16": "bfloat16"}.get(name, "float16")


@pytest.mark.parametrize("kind", [F32, F16, BF16, Q4_0])
def test_provider_has_what_qwen3_is_made_of(qwen3: onnx.ModelProto, kind: Encoding) -> None:
    """Between projection and rotation its heads are normalized."""
    neutral = ir.from_proto(qwen3)
    encodings = {
        value.name: kind if len(value.shape) == 2 else F32
        for value in neutral.graph.inputs
        if value.name is not None and value.name.endswith(".weight") and value.shape is not None
    }
    activations = activation_type({encoding.name for encoding in encodings.values()})
    own = rules(activations, packed=False)
    graph = lower(neutral, own, encodings, "cuda", activations)
    cuda.CHECK(graph)


def test_provider_has_no_grouped_attention_in_float32(cases: dict[str, Case]) -> None:
    deployment = cases["f32"].deployment
    halves = rules("float16", packed=False)
    with pytest.raises(LoweringError, match=r"\.GroupQueryAttention-1 \(.*T float, .*\(2 "):
        deployment.program.lowered(deployment, "cuda", halves, "float32", cuda.CHECK)


@pytest.mark.parametrize("name", KINDS)
def test_sums_are_made_where_they_are_normalized(cases: dict[str, Case], name: str) -> None:
    """The first norm is of no sum, and the last one only of the positions that are wanted."""
    found = operators(cases[name].graph)
    assert found["SkipSimplifiedLayerNormalization"] == 3
    assert found["SimplifiedLayerNormalization"] == 2


def test_each_encoding_has_its_operator(cases: dict[str, Case]) -> None:
    mixed = cases["mixed"].graph
    assert operators(mixed)["MatMulNBits"] == 15
    assert operators(mixed)["FusedMatMul"] == 1  # the offsets of q4_1
    assert operators(cases["f16"].graph)["FusedMatMul"] == 15
    assert {weight.layout for weight in mixed.weights} == {
        *("codes", "codes_by_row", "scales", "offsets", "float16")
    }


def test_weights_are_inputs_unless_they_are_packed(cases: dict[str, Case]) -> None:
    case = cases["mixed"]
    assert not any(weight.constant for weight in case.graph.weights)
    packed = CudaTarget(fpa_intb_gemm=True).lower(case.deployment)
    constants = [weight for weight in packed.weights if weight.constant]
    assert len({weight.parameter for weight in constants}) == 14  # all but the q6_k
    more, less = (footprint(case.deployment, graph) for graph in (packed, case.graph))
    assert more.total - less.total == sum(weight.nbytes for weight in constants)


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"bf16"}))
def test_logits_are_those_of_the_reference(cases: dict[str, Case], name: str) -> None:
    """The CPU provider has no bfloat16.

    A rounding to float16 is off by 2**-11 / sqrt(3) = 2.8e-4 of a value in the mean square. Some
    twenty in a row, as in two layers, make 1.3e-3, and the largest error of 30,000 logits is a few
    times that.
    """
    case = cases[name]
    reference = open_model(case.path, encoding="auto", target="torch")
    expected = scored(reference.start(slots=1, max_length=40))
    error = (scored(case.on_the_cpu()) - expected) / expected.std()
    largest, typical = (1.5e-2, 2e-3) if name != "f32" else (2e-5, 4e-6)
    assert np.abs(error).max() < largest
    assert np.sqrt(np.square(error).mean()) < typical


def scored(runner: Runner) -> NDArray[np.float32]:
    return np.concatenate([runner.score(prompt) for prompt in PROMPTS])


HEADS, KV_HEADS, HEAD_DIM, CAPACITY = 4, 2, 16, 32


@pytest.mark.parametrize(
    ("sequence", "past"),
    [(5, [0]), (4, [6]), (CAPACITY, [0]), (1, [4, 9, 0])],
    ids=["prompt", "on top", "full", "step"],
)
def test_attention_with_a_bound_for_its_length(
    tmp_path: Path, sequence: int, past: list[int]
) -> None:
    """The operator is told the state's capacity in place of the longest row."""
    batch = len(past)
    generator = np.random.default_rng(0)

    def random(*shape: int) -> NDArray[np.float32]:
        return generator.normal(size=shape).astype(np.float32)

    angles = random(CAPACITY, HEAD_DIM // 2)
    state = (batch, KV_HEADS, CAPACITY, HEAD_DIM)
    total = np.array(past, np.int32) + sequence
    inputs = {
        "query": random(batch, sequence, HEADS * HEAD_DIM),
        "key": random(batch, sequence, KV_HEADS * HEAD_DIM),
        "value": random(batch, sequence, KV_HEADS * HEAD_DIM),
        "past_key": random(*state),
        "past_value": random(*state),
        "past": np.array(past, np.int32),
        "total": total,
        "cos": np.cos(angles),
        "sin": np.sin(angles),
    }
    rotation = {"head_dim": HEAD_DIM, "interleaved": 1}
    tables = ["past", "cos", "sin"]
    halves = ["past_key", "past_value", "past", "total"]
    results = {
        "mixed": ("a", "b", HEADS * HEAD_DIM),
        "new_key": ("a", KV_HEADS, "c", HEAD_DIM),
        "new_value": ("a", KV_HEADS, "c", HEAD_DIM),
    }
    graph = lowered(
        [
            Operator("RoPE", ["query", *tables], {"q": ("a", "b", HEADS * HEAD_DIM)}, rotation),
            Operator("RoPE", ["key", *tables], {"k": ("a", "b", KV_HEADS * HEAD_DIM)}, rotation),
            Operator(
                "Attention",
                ["q", "k", "value", *halves],
                results,
                {"head_dim": HEAD_DIM, "scale": 0.3},
            ),
        ],
        inputs,
        [*results],
        rules=rules("float16", packed=False),
    )
    assert operators(graph) == {"Shape": 1, "Cast": 1, "GroupQueryAttention": 1}
    result = compute(tmp_path, graph, {**inputs, "last": total - 1})

    t = {name: torch.from_numpy(value) for name, value in inputs.items()}
    q, k = (ops.rope(t[x], *(t[y] for y in tables), HEAD_DIM, 1) for x in ("query", "key"))
    expected = ops.attention(q, k, t["value"], *(t[name] for name in halves), HEAD_DIM, 0.3)
    np.testing.assert_allclose(result[0], expected[0], atol=1e-5)
    for row, length in enumerate(total):
        for half in (1, 2):
            np.testing.assert_allclose(
                result[half][row, :, :length], expected[half][row, :, :length], atol=1e-5
            )


def test_rows_are_counted_through_the_batch(tmp_path: Path) -> None:
    x = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    wanted = np.array([[2, 0], [1, 1]])
    inputs = {"x": x, "wanted": wanted}
    operator = Operator("Select", ["x", "wanted"], {"y": ("a", "b", 4)})
    graph = lowered([operator], inputs, ["y"], rules=rules("float16", packed=False))
    rows = wanted + np.array([[0], [3]])
    (result,) = compute(tmp_path, graph, {**inputs, "rows": rows})
    np.testing.assert_array_equal(result, np.take_along_axis(x, wanted[..., None], 1))


@pytest.mark.parametrize("encoding", [*BLOCKS, "f16", "f32"])
def test_rows_of_every_encoding(tmp_path: Path, encoding: str) -> None:
    matrix = Matrix.random(encoding, 30, 256)
    tokens = np.array([[3, 29, 0], [7, 7, 1]])
    operator = Operator("Embedding", ["tokens", "w"], {"logits": ("a", "b", 256)})
    weights, inputs = {"w": matrix}, {"tokens": tokens}
    graph = lowered(
        [operator], inputs, ["logits"], weights, rules("float16", packed=False), "float16"
    )
    (result,) = compute(tmp_path, graph, inputs, weights)
    # Of blocks in blocks, scales are rounded as well as products.
    np.testing.assert_allclose(result, matrix.values[tokens], rtol=2 * 2**-11, atol=1e-7)


@pytest.mark.parametrize(
    ("skip", "fused"), [(("a", "b", 8), True), ((8,), False), (("a", 1, 8), False)]
)
def test_only_sums_of_one_shape_are_fused(skip: tuple[int | str, ...], fused: bool) -> None:
    """A bias, say, is spread over the tokens, which the operator does not do."""
    kind = ir.TensorType(ir.DataType.FLOAT)
    shapes = {"x": ("a", "b", 8), "skip": skip, "w": (8,)}
    values = {
        name: ir.Value(name=name, shape=ir.Shape(shape), type=kind)
        for name, shape in shapes.items()
    }
    outputs = [
        ir.Value(name=name, shape=ir.Shape(("a", "b", 8)), type=kind) for name in ("sum", "y")
    ]
    nodes = [
        ir.node("Add", [values["x"], values["skip"]], outputs=[outputs[0]]),
        ir.node(
            "RMSNorm",
            [outputs[0], values["w"]],
            {"epsilon": 1e-5},
            domain=DOMAIN,
            outputs=[outputs[1]],
        ),
    ]
    graph = ir.Graph(
        list(values.values()), outputs, nodes=nodes, opset_imports={"": 20, DOMAIN: 1}, name="sum"
    )
    model = ir.Model(graph, ir_version=10)
    found = operators(lower(model, rules("float32", packed=False), {"w": F32}, "cuda"))
    if fused:
        assert found == {"SkipSimplifiedLayerNormalization": 1}
    else:
        assert found == {"Add": 1, "SimplifiedLayerNormalization": 1}
