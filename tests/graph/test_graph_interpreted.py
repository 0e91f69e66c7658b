"""The neutral graph computes what its network does when it runs eagerly, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from pipelines.common.decoder import rope
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.graph.build import build, inputs
from pipelines.common.importing import import_from
from pipelines.common.nn.module import Module
from pipelines.common.ops import OPERATORS
from pipelines.llama3 import model as llama3

NETWORKS: Mapping[str, ModuleType] = {
    "llama3": llama3,
    "qwen3": import_from(Path(__file__).parents[2] / "plugins" / "qwen3" / "model.py"),
}
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
CAPACITY = 10


@st.composite
def configs(draw: st.DrawFn) -> DecoderConfig:
    kv_heads = draw(st.integers(1, 3))
    return DecoderConfig(
        vocabulary=draw(st.integers(2, 50)),
        context_length=CAPACITY,
        hidden_size=draw(st.integers(1, 100)),
        intermediate_size=draw(st.integers(1, 100)),
        layers=draw(st.integers(1, 3)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=2 * draw(st.integers(1, 9)),
        norm_epsilon=draw(st.sampled_from((1e-6, 1e-5))),
        rope_base=draw(st.sampled_from((1e4, 5e5))),
        interleaved=draw(st.booleans()),
        attention_factor=draw(st.sampled_from((1.0, 0.7))),
        biases=tuple(name for name in MATRICES if draw(st.booleans())),
        tied=draw(st.booleans()),
    )


def interpret(graph: ir.Graph, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A graph's outputs, node by node: neutral ones by their references, others by ONNX's."""
    known = {value: given[str(value.name)] for value in graph.inputs}
    sizes: dict[str, int] = {}
    for value, tensor in known.items():
        check_shape(value, tensor, sizes)
    for node in graph:
        arguments = [None if value is None else known[value] for value in node.inputs]
        made = neutral(node, arguments) if node.domain else standard(node, arguments)
        for value, tensor in zip(node.outputs, made, strict=True):
            check_shape(value, tensor, sizes)
            known[value] = tensor
    return {str(value.name): known[value] for value in graph.outputs}


def check_shape(value: ir.Value, tensor: Tensor, sizes: dict[str, int]) -> None:
    """Dimensions of one name are the same wherever they occur."""
    assert value.shape is not None
    for told, size in zip(value.shape, tensor.shape, strict=True):
        expected = told if isinstance(told, int) else sizes.setdefault(str(told.value), size)
        assert expected == size, (value.name, value.shape, tensor.shape)


def neutral(node: ir.Node, arguments: list[Tensor | None]) -> tuple[Tensor, ...]:
    assert node.domain == "pipelines"
    operator = OPERATORS[node.op_type]
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    tensors = (name for name in operator.parameters if name not in attributes)
    made = operator.reference(**dict(zip(tensors, arguments, strict=True)), **attributes)
    return (made,) if isinstance(made, Tensor) else made


def standard(node: ir.Node, arguments: list[Tensor | None]) -> tuple[Tensor, ...]:
    names = ["" if x is None else f"x{place}" for place, x in enumerate(arguments)]
    outputs = [f"y{place}" for place in range(len(node.outputs))]
    attributes = {
        name: ir.to_proto(attribute.value)
        if attribute.type == ir.AttributeType.TENSOR
        else attribute.value
        for name, attribute in node.attributes.items()
    }
    alone = onnx.helper.make_node(node.op_type, names, outputs, **attributes)
    feeds = {f"x{i}": x.numpy() for i, x in enumerate(arguments) if x is not None}
    # Copied, so that it lies where torch would have it: products depend on that.
    made = ReferenceEvaluator(alone).run(None, feeds)
    return tuple(map(torch.tensor, made))


def weights(network: Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, parameter in network.parameters().items():
        values = torch.randn(parameter.shape, generator=generator)
        wide = len(parameter.shape) == 2
        made[name] = values * parameter.shape[-1] ** -0.5 if wide else 1 + values / 4
    return made


def as_eager(
    network: Module, config: DecoderConfig, given: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    halves = ([given[f"{half}.{i}"] for i in range(config.layers)] for half in ("key", "value"))
    others = (given[name] for name in ("tokens", "past", "total", "wanted", "cos", "sin"))
    logits, keys, values = network(*others, *halves)
    return {
        "logits": logits,
        **{f"new_key.{layer}": key for layer, key in enumerate(keys)},
        **{f"new_value.{layer}": value for layer, value in enumerate(values)},
    }


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=25, deadline=None)
@given(
    config=configs(),
    lengths=st.tuples(st.integers(1, 6), st.integers(1, 6)).filter(lambda both: both[0] != both[1]),
    seed=st.integers(0, 999),
)
def test_a_prefill_and_a_step_on_top(
    name: str, config: DecoderConfig, lengths: tuple[int, int], seed: int
) -> None:
    """Two rows of different lengths, the shorter one padded."""
    network = NETWORKS[name].build(config)
    # As it is written: a graph that is read again has what a file can hold.
    graph = ir.from_proto(ir.to_proto(build(network, config))).graph
    made = weights(network, seed)
    bound = network.bind(made, torch.from_numpy)
    generator = torch.Generator().manual_seed(seed + 1)
    frequencies = config.rope_base ** -np.linspace(0, 0.9, config.head_dim // 2, dtype=np.float32)
    cos, sin = map(torch.from_numpy, rope.tables(frequencies, CAPACITY))
    shape = (2, config.kv_heads, CAPACITY, config.head_dim)
    state = {
        each: torch.randn(shape, generator=generator)  # what is not filled yet is never seen
        for each in inputs(config)
        if each.startswith(("key.", "value."))
    }
    past, new = torch.zeros(2, dtype=torch.int32), torch.tensor(lengths, dtype=torch.int32)
    for sequence in (max(lengths), 1):
        given = {
            "tokens": torch.randint(config.vocabulary, (2, sequence), generator=generator),
            "past": past,
            "total": past + new,
            "wanted": (new - 1).long()[:, None],
            "cos": cos,
            "sin": sin,
            **state,
            **made,
        }
        with torch.inference_mode():
            expected: dict[str, Any] = as_eager(bound, config, given)
            computed = interpret(graph, given)
        assert computed.keys() == expected.keys()
        for each, tensor in expected.items():
            assert tensor.dtype == torch.float32
            np.testing.assert_array_equal(computed[each].numpy(), tensor.numpy(), err_msg=each)
        assert expected["logits"].isfinite().all()
        state = {each: computed[f"new_{each}"].clone() for each in state}
        past, new = past + new, torch.ones(2, dtype=torch.int32)
