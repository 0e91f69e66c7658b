"""What a network does with values of a graph means what it means with torch's tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from pipelines.common import ops
from pipelines.common.graph.build import to_model
from pipelines.common.ops.value import Recording, Spec

SHAPE = (2, 3, 12)
ROW = np.linspace(0.5, 1.5, 12, dtype=np.float32)

CALCULATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "a sum": lambda x, y: x + y,
    "a spread sum": lambda x, y: x + y[..., 0:1],
    "numbers on either side": lambda x, y: 1 - (2 * x) / (3 + y.square()) - 1.5,
    "a number divided": lambda x, y: 1 / (x.square() + 1) - y,
    "a negative": lambda x, y: -x * y,
    "exp and tanh": lambda x, y: (x.exp() + y.tanh()).sigmoid(),
    "roots": lambda x, y: (x.square() + 1).sqrt() * (y.square() + 1).rsqrt(),
    "a mean that stays": lambda x, y: x - y.mean(-1, keepdim=True),
    "a mean that goes": lambda x, y: x.mean(2) * y.mean(-1),
    "a mean over the sequence": lambda x, y: x * y.mean(1, keepdim=True),
    "heads": lambda x, y: (x.unflatten(-1, (3, -1)) * y.unflatten(2, (-1, 4))).flatten(-2),
    "norms of heads": lambda x, y: (
        x.unflatten(-1, (-1, 4)) * y.unflatten(-1, (-1, 4)).mean(-1, keepdim=True)
    ).flatten(2),
    "parts of one size": lambda x, y: x.split(4, dim=-1)[1] + y.split(4, -1)[2],
    "parts of several sizes": lambda x, y: x.split([2, 6, 4], -1)[1] * y.split((5, 6, 1), -1)[1],
    "uneven chunks": lambda x, y: x.chunk(5, -1)[3] - y.chunk(5, dim=2)[0],
    "slices": lambda x, y: x[..., 2:7] + y[..., -5:],
    "torch's numbers on either side": lambda x, y: (
        torch.from_numpy(ROW) - x * torch.from_numpy(ROW) + torch.mul(torch.from_numpy(ROW), y)
    ),
    "torch's functions": lambda x, y: torch.tanh(x) * torch.sqrt(torch.square(y)) - torch.mul(x, 2),
}


@pytest.mark.parametrize("name", CALCULATIONS)
def test_calculations_are_torchs(name: str) -> None:
    generator = np.random.default_rng(1)
    x, y = (generator.normal(size=SHAPE).astype(np.float32) for _ in range(2))
    calculate = CALCULATIONS[name]
    expected = calculate(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    recording, given = Recording(), Spec(("batch", "sequence", 12))
    inputs = {"x": recording.value(given), "y": recording.value(given)}
    result = calculate(*inputs.values())
    assert len(result.shape) == expected.ndim
    for told, size in zip(result.shape, expected.shape, strict=True):
        assert told == size or told == {2: "batch", 3: "sequence"}[size]
    model = ir.to_proto(to_model(recording, inputs, {"result": result}))
    (computed,) = ReferenceEvaluator(model).run(None, {"x": x, "y": y})
    np.testing.assert_allclose(computed, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("calculate", [lambda x: ROW * x - ROW, lambda x: (x - ROW) * ROW])
def test_arrays_that_a_network_has(calculate: Callable[[Any], Any]) -> None:
    x = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    recording = Recording()
    inputs = {"x": recording.value(Spec(("batch", "sequence", 12)))}
    model = to_model(recording, inputs, {"result": calculate(inputs["x"])})
    (computed,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    np.testing.assert_allclose(computed, calculate(x), rtol=1e-6)


def test_an_input_that_goes_through_and_one_result_twice() -> None:
    recording = Recording()
    inputs = {"x": recording.value(Spec(("batch",)))}
    double = inputs["x"] * 2
    model = to_model(recording, inputs, {"same": inputs["x"], "a": double, "b": double})
    x = np.arange(3, dtype=np.float32)
    results = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    for result, expected in zip(results, (x, 2 * x, 2 * x), strict=True):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("calculate", "message"),
    [
        (torch.fft.fft, r"cannot call torch's fft_fft; expected one of add, chunk"),
        (lambda x: x.unflatten(0, (2, -1)), r"dimension 0 of .* varies; expected a fixed one"),
        (lambda x: x.flatten(0, 1), r"dimension 0 of .* varies"),
        (lambda x: x.unflatten(-1, (5, -1)), r"a dimension of 12 cannot be taken apart into \[5"),
        (lambda x: x.unflatten(-1, (3, 3)), r"a dimension of 12 cannot be taken apart into \[3, 3"),
        (lambda x: x.split([5, 6], -1), r"a dimension of 12 cannot be cut into \[5, 6\]"),
        (lambda x: x + x[..., :5], r"do not go together"),
        (lambda x: x[0], r"a graph has no 0 of a value; expected x\[\.\.\., first:last\]"),
        (lambda x: x[..., ::2], r"takes no steps of 2"),
        (lambda x: x[..., 3], r"a graph has no .* of a value; expected x\[\.\.\., first:last\]"),
        (lambda x: x[..., None], r"a graph has no .* of a value"),
        (lambda x: x.unflatten(-1, (-1, -1)), r"a dimension of 12 cannot be taken apart into \[-1"),
        (lambda x: x.unflatten(-1, (0, -1)), r"a dimension of 12 cannot be taken apart into \[0"),
        (lambda x: x.unflatten(-1, (-2, -6)), r"a dimension of 12 cannot be taken apart into \[-2"),
        (lambda x: x.flatten(2, 1), r"dimension 2 comes after 1"),
        (lambda x: x.split([14, -2], -1), r"a dimension of 12 cannot be cut into \[14, -2\]"),
        (lambda x: x.split(0, -1), r"cannot be cut into parts of 0"),
        (lambda x: x.chunk(0, -1), r"cannot be cut into 0 parts"),
        (lambda x: torch.cat([x, x]), r"cannot call torch's cat; expected one of add, chunk"),
    ],
)
def test_what_a_graph_cannot_have(calculate: Callable[[Any], Any], message: str) -> None:
    x = Recording().value(Spec(("batch", "sequence", 12)))
    with pytest.raises((TypeError, ValueError), match=message):
        calculate(x)


def test_what_varies_stays_where_it_is() -> None:
    x = Recording().value(Spec((6, "batch")))
    with pytest.raises(ValueError, match="dimensions that vary cannot move"):
        x.unflatten(0, (2, 3))


def test_no_part_is_less_than_nothing() -> None:
    x = Recording().value(Spec(("batch", 12)))
    assert x[..., 5:2].shape == ("batch", 0)
    assert torch.empty(1, 12)[..., 5:2].shape == (1, 0)


@pytest.mark.parametrize(
    ("calculate", "message"),
    [
        (lambda x, _: x * 0.5, r"0\.5 needs a value of floats; this one is int64"),
        (lambda x, _: ROW - x, r"needs a value of floats; this one is int64"),
        (lambda x, _: x / 2, r"Div needs a value of floats"),
        (lambda x, _: x.exp(), r"Exp needs a value of floats"),
        (lambda x, _: x.mean(-1), r"ReduceMean needs a value of floats"),
        (lambda x, y: x + y, r"values of float32 and int64 do not go together"),
    ],
)
def test_integers_become_no_floats(calculate: Callable[[Any, Any], Any], message: str) -> None:
    recording = Recording()
    x, y = (recording.value(Spec(("batch", 12), kind)) for kind in ("int64", "float32"))
    with pytest.raises(TypeError, match=message):
        calculate(x, y)


def test_integers_are_calculated_with() -> None:
    x = np.arange(12).reshape(1, 12)
    recording = Recording()
    inputs = {"x": recording.value(Spec(("batch", 12), "int64"))}
    model = to_model(recording, inputs, {"result": 2 * -inputs["x"] + 1})
    (computed,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    np.testing.assert_array_equal(computed, 1 - 2 * x)


def test_an_array_that_a_neutral_operator_takes_is_one_of_its_tensors() -> None:
    recording = Recording()
    x = recording.value(Spec(("batch", "sequence", 12)))
    normalized = ops.rms_norm(x, ROW, 1e-5)  # type: ignore[arg-type]
    constant, norm = recording.nodes
    assert normalized.shape == x.shape
    assert norm.inputs == (x, *constant.outputs)
    assert norm.attributes == {"epsilon": 1e-5}
    np.testing.assert_array_equal(constant.attributes["value"], ROW)
