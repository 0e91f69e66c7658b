"""What a graph consists of, against what follows from its dimensions and ggml's block sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import onnx_ir as ir
import pytest

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.encodings import ENCODINGS, F32, Q4_0, Q8_0, Encoding
from pipelines.common.graph.build import build
from pipelines.common.graph.lower import lower
from pipelines.common.graph.rules import LoweredGraph, Rule
from pipelines.common.importing import import_from
from pipelines.common.ops import DOMAIN
from pipelines.common.rotary.rope import Rope
from pipelines.common.targets.coreml.rules import RULES as COREML
from pipelines.common.targets.cpu.rules import RULES as CPU
from pipelines.common.targets.cuda.rules import rules as cuda_rules
from pipelines.common.view import anatomy
from pipelines.common.view.anatomy import Anatomy, alike

ROOT = Path(__file__).parents[2]

LAYERS, CONTEXT = 2, 100

# hidden 64, inner 96, 4 query heads and 2 key-value heads of 16, vocabulary 40: see conftest
LAYER = {
    "attention.query": (64, 64),
    "attention.key": (32, 64),
    "attention.value": (32, 64),
    "attention.output": (64, 64),
    "feed_forward.gate": (96, 64),
    "feed_forward.up": (96, 64),
    "feed_forward.down": (64, 96),
}
NORM_BYTES = 64 * 4


def copy(model: ir.Model) -> ir.Model:
    """A graph that can be used up."""
    return ir.from_proto(ir.to_proto(model))


def encodings(
    model: ir.Model, matrices: Encoding, exceptions: Mapping[str, Encoding] | None = None
) -> dict[str, Encoding]:
    chosen = {}
    for value in model.graph.inputs:
        if value.name is not None and value.name.endswith(".weight"):
            assert value.shape is not None
            chosen[value.name] = matrices if len(value.shape) == 2 else F32
    return {**chosen, **(exceptions or {})}


def native_rules() -> tuple[Rule, ...]:
    folder = ROOT / "custom_ops" / "native"
    rules = import_from(folder / "rules.py", package=folder).PACKAGE.rules["cpu"]
    return tuple(replace(rule, package="native") for rule in rules)


def of_target(neutral: ir.Model, target: str, matrices: Encoding) -> LoweredGraph:
    rules, activations = {
        "cpu": lambda: (CPU, "float32"),
        "native": lambda: ((*native_rules(), *CPU), "float32"),
        "cuda": lambda: (cuda_rules("float16", packed=False), "float16"),
        "coreml": lambda: (COREML, "float16"),
    }[target]()
    return lower(copy(neutral), rules, encodings(neutral, matrices), target, activations)


def ggml_bytes(shape: tuple[int, ...], encoding: Encoding) -> int:
    """What a tensor takes in a GGUF file, by the `gguf` package's own table."""
    elements, nbytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(encoding.ggml_type)]
    rows, columns = shape
    return rows * (columns // elements) * nbytes


@pytest.fixture
def before(neutral: ir.Model) -> Callable[..., Anatomy]:
    def make(matrices: Encoding, **exceptions: Encoding) -> Anatomy:
        runs = encodings(neutral, matrices, exceptions)
        return anatomy.of_neutral(neutral, runs, LAYERS, CONTEXT)

    return make


def test_operators_of_the_neutral_graph(before: Callable[..., Anatomy]) -> None:
    expected = {"Linear": 15, "RMSNorm": 5, "RoPE": 4, "Attention": 2, "SiLU": 2}
    neutral = {**expected, "Embedding": 1, "Select": 1}
    assert before(F32).counts() == {
        **{f"{DOMAIN}:{name}": count for name, count in neutral.items()},
        "Add": 4,
        "Mul": 2,
    }


def test_every_node_is_in_the_part_of_its_weights(before: Callable[..., Anatomy]) -> None:
    by_part: dict[int, Counter[str]] = {}
    for node in before(F32).nodes:
        by_part.setdefault(node.part, Counter())[node.operator.removeprefix(f"{DOMAIN}:")] += 1
    layer = {"Linear": 7, "RMSNorm": 2, "RoPE": 2, "Attention": 1, "SiLU": 1, "Add": 2, "Mul": 1}
    assert by_part == {
        0: {"Embedding": 1},
        1: layer,
        2: layer,
        3: {"Select": 1, "RMSNorm": 1, "Linear": 1},
    }


@pytest.mark.parametrize("name", ["f32", "f16", "q8_0", "q5_0", "q4_0", "q4_1"])
def test_bytes_before_lowering_are_those_of_the_encodings(
    before: Callable[..., Anatomy], name: str
) -> None:
    encoding = ENCODINGS[name]
    graph = before(encoding)
    layer = 2 * NORM_BYTES + sum(ggml_bytes(shape, encoding) for shape in LAYER.values())
    row, head = ggml_bytes((1, 64), encoding), ggml_bytes((40, 64), encoding) + NORM_BYTES
    assert [graph.cost_of_part(part).weights for part in range(4)] == [row, layer, layer, head]
    assert graph.cost.weights == row + 2 * layer + head


def test_bytes_of_the_state_before_lowering(before: Callable[..., Anatomy]) -> None:
    layer = 2 * 2 * 16 * 4 * CONTEXT  # keys and values of two heads of 16 in float32
    graph = before(Q4_0)
    assert [graph.cost_of_part(part).state for part in range(4)] == [0, layer, layer, 0]
    assert graph.cost_of_operator(f"{DOMAIN}:Attention").bytes == 2 * layer


def test_flops(before: Callable[..., Anatomy]) -> None:
    """Products take two for each element: 30,720 of a layer's matrices and 2,560 of the output's.

    Attention takes a product with each of 100 keys and with each value, over 4 heads of 16.
    """
    layer = 2 * 30_720 + 2 * 2 * 4 * 16 * CONTEXT
    graph = before(Q4_0)
    assert [graph.cost_of_part(part).flops for part in range(4)] == [0, layer, layer, 2 * 2_560]


def test_layers_that_take_the_same_stand_together(before: Callable[..., Anatomy]) -> None:
    assert alike([before(Q4_0)]) == [(0,), (1, 2), (3,)]
    mixed = before(Q4_0, **{"layers.1.feed_forward.down.weight": Q8_0})
    assert alike([mixed]) == [(0,), (1,), (2,), (3,)]
    # Whatever is alike in one of two graphs only is not alike.
    assert alike([before(Q4_0), mixed]) == [(0,), (1,), (2,), (3,)]


# Bytes of a weight: codes and scales apart, scales in the type of the activations; Core ML gets
# float16.
PER_WEIGHT = {
    ("cpu", "q4_0"): 1 / 2 + 4 / 32,
    ("cpu", "q8_0"): 1 + 4 / 32,
    ("native", "q4_0"): 18 / 32,
    ("native", "q8_0"): 34 / 32,
    ("cuda", "q4_0"): 1 / 2 + 2 / 32,
    ("cuda", "q8_0"): 1 + 2 / 32,
    ("coreml", "q4_0"): 2,
    ("coreml", "q8_0"): 2,
}
STATE_ELEMENT = {"cpu": 4, "native": 2, "cuda": 2, "coreml": 2}
NORM_ELEMENT = {"cpu": 4, "native": 4, "cuda": 2, "coreml": 2}


@pytest.mark.parametrize(("target", "name"), PER_WEIGHT)
def test_bytes_after_lowering_are_those_of_the_targets_layouts(
    neutral: ir.Model, target: str, name: str
) -> None:
    lowered = of_target(neutral, target, ENCODINGS[name])
    graph = anatomy.of_lowered(lowered, LAYERS, CONTEXT)
    norm = 64 * NORM_ELEMENT[target]
    # Tiles have 16 rows of 64 columns: of the 96 columns of a layer's last matrix, and of the 40
    # rows of the head, the rest is filled up.
    in_layer, in_head = (32_768, 3_072) if target == "native" else (30_720, 2_560)
    layer = in_layer * PER_WEIGHT[target, name] + 2 * norm
    head = in_head * PER_WEIGHT[target, name] + norm
    # The table for Core ML stays outside of the graph as it is stored.
    in_table = (
        ENCODINGS[name].row_bytes(64) if target == "coreml" else 64 * PER_WEIGHT[target, name]
    )
    assert [graph.cost_of_part(p).weights for p in range(4)] == [in_table, layer, layer, head]
    state = 2 * 2 * 16 * STATE_ELEMENT[target] * CONTEXT
    assert [graph.cost_of_part(p).state for p in range(4)] == [0, state, state, 0]
    assert graph.cost.state == lowered.state_bytes * CONTEXT


def test_all_weights_of_a_lowered_graph_are_counted(neutral: ir.Model) -> None:
    lowered = of_target(neutral, "cpu", Q8_0)
    table = [weight for weight in lowered.weights if weight.parameter == "embedding.weight"]
    unread = sum(weight.nbytes - weight.nbytes // 40 for weight in table)
    graph = anatomy.of_lowered(lowered, LAYERS, CONTEXT)
    assert graph.cost.weights == sum(weight.nbytes for weight in lowered.weights) - unread


def test_operators_after_lowering(neutral: ir.Model) -> None:
    stock = anatomy.of_lowered(of_target(neutral, "cpu", Q4_0), LAYERS, CONTEXT).counts()
    assert stock["com.microsoft:MatMulNBits"] == 15
    assert stock["com.microsoft:GroupQueryAttention"] == 2
    assert stock["Add"] == 4
    assert not any(name.startswith(f"{DOMAIN}:") for name in stock)
    native = anatomy.of_lowered(of_target(neutral, "native", Q4_0), LAYERS, CONTEXT).counts()
    # Three of a layer are fused into one product each, and the last norm into the output's.
    assert native["pipelines.native:Linear"] == LAYERS * 4 + 1
    assert native["pipelines.native:RotaryAttention"] == LAYERS


def test_a_table_outside_of_the_graph_is_the_runners(neutral: ir.Model) -> None:
    graph = anatomy.of_lowered(of_target(neutral, "coreml", Q8_0), LAYERS, CONTEXT)
    assert graph.cost_of_operator(anatomy.RUNNER).weights == 34 * 2
    assert graph.counts()[anatomy.RUNNER] == 1


def test_a_norm_in_arithmetic_is_in_the_part_that_it_normalizes_for(neutral: ir.Model) -> None:
    """Its weight is read last, behind nodes that nothing but their place tells from a layer's."""
    graph = anatomy.of_lowered(of_target(neutral, "coreml", Q8_0), LAYERS, CONTEXT)
    means = [node.part for node in graph.nodes if node.operator == "ReduceMean"]
    assert means == [1, 1, 2, 2, 3]


def test_what_looks_at_the_shape_of_the_state_does_not_read_it(neutral: ir.Model) -> None:
    graph = anatomy.of_lowered(of_target(neutral, "cuda", Q8_0), LAYERS, CONTEXT)
    assert any("key.0" in node.inputs for node in graph.nodes if node.operator == "Shape")
    assert graph.cost_of_operator("Shape").bytes == 0


@pytest.mark.parametrize("target", ["neutral", "cpu", "native", "cuda", "coreml"])
def test_nodes_stand_behind_what_they_read_also_part_by_part(
    neutral: ir.Model, before: Callable[..., Anatomy], target: str
) -> None:
    if target == "neutral":
        graph = before(Q8_0)
    else:
        graph = anatomy.of_lowered(of_target(neutral, target, Q8_0), LAYERS, CONTEXT)
    made = {name for node in graph.nodes for name in node.outputs}
    seen: set[str] = set()
    for node in sorted(graph.nodes, key=lambda node: node.part):
        assert seen.issuperset(made.intersection(node.inputs)), node
        seen.update(node.outputs)


@pytest.fixture(scope="module")
def qwen3() -> Iterator[tuple[ir.Model, DecoderConfig]]:
    config = DecoderConfig(40, 128, 64, 96, 3, 4, 2, 32, 1e-5, Rope(32, 500000.0))
    network = import_from(ROOT / "plugins" / "qwen3" / "model.py")
    yield build(network.build(config)), config


def test_another_network(qwen3: tuple[ir.Model, DecoderConfig]) -> None:
    """Qwen 3 has a norm for queries and one for keys, and here heads wider than the model."""
    model, config = qwen3
    runs = encodings(model, F32)
    graph = anatomy.of_neutral(model, runs, config.layers, CONTEXT)
    assert graph.counts()[f"{DOMAIN}:RMSNorm"] == 4 * 3 + 1
    assert alike([graph]) == [(0,), (1, 2, 3), (4,)]
    matrices = 2 * 128 * 64 + 2 * 64 * 64 + 3 * 96 * 64
    layer = graph.cost_of_part(1)
    assert layer.weights == 4 * (matrices + 2 * 64 + 2 * 32)
    assert layer.flops == 2 * matrices + 4 * 128 * CONTEXT
    lowered = lower(copy(model), CPU, runs, "cpu")
    after = anatomy.of_lowered(lowered, config.layers, CONTEXT)
    assert after.cost == replace(graph.cost, flops=0)
