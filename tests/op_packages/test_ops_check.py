"""``ops check``: right rules pass, wrong ones fail, and what cannot be tried says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ops_program import program, single_file

from pipelines.common.encodings import ENCODINGS
from pipelines.common.graph import patterns
from pipelines.common.graph.patterns import AttentionInputs
from pipelines.common.graph.rules import Emitter, Rule
from pipelines.common.op_check.check import Checked, check
from pipelines.common.op_check.examples import EXAMPLES
from pipelines.common.ops import Spec, neutral_operator
from pipelines.common.program.package import Layout, LoadedPackage, OpPackage
from pipelines.common.targets.cpu.rules import RULES

TABLE = """
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Rule
from pipelines.common.program.package import OpPackage

def right(op, x):
    return op.Mul(x, op.Sigmoid(x))

def wrong(op, x):
    return op.Relu(x)

PACKAGE = OpPackage(
    "Two ways to be SiLU.",
    {"cpu": (Rule("right", patterns.silu, right), Rule("wrong", patterns.silu, wrong))},
)
"""


UNTOLD = """
import numpy as np

def operators():
    from pipelines.common.ops import neutral_operator

    @neutral_operator("Untold", lambda x, table: x)
    def untold(x, table):
        return x * table.sum()

def rows(op, x, table):
    return op.Mul(x, op.ReduceSum(op.weight(table, "float32", (3, 4)), keepdims=0))

def examples(generator):
    yield {"x": np.ones((1, 1, 4), np.float32), "table": np.ones((3, 4), np.float32)}

def none(generator):
    1 / 0
    yield
"""

ROWS = """
def untold(op, x, table):
    return op.Untold(x, table)

RULES = (
    Rule("rows", untold, rows, examples=examples),
    Rule("none", untold, rows, examples=none),
    Rule("right", patterns.silu, right),
)
PACKAGE = OpPackage("A weight.", {"cpu": RULES}, operators=operators)
"""


def checked(
    *rules: Rule, layouts: Mapping[str, Layout] | None = None, operators: Any = None
) -> list[Checked]:
    contents = OpPackage("", {"cpu": rules}, layouts or {}, operators)
    return list(check(LoadedPackage("test", Path("test"), contents)))


def of_the_target(name: str) -> Rule:
    (rule,) = (rule for rule in RULES if rule.name == name)
    return rule


def emit_product(op: Emitter, x: Any, weight: Any) -> Any:
    matrix = op.weight(weight, "float32", op.shape(weight), constant=False)
    return op.MatMul(x, op.Transpose(matrix, perm=[1, 0]))


def test_the_table_and_the_exit_code(tmp_path: Path) -> None:
    outcome = program("ops", "check", single_file(tmp_path, "two", TABLE))
    assert outcome.code == 1
    heading, right, wrong, summary = outcome.out.splitlines()
    assert heading.split()[:3] == ["rule", "operators", "encodings"]
    assert right.split()[:2] == ["right", "SiLU"]
    assert right.endswith("ok")
    assert wrong.split()[:2] == ["wrong", "SiLU"]
    assert wrong.endswith("FAILED")
    assert summary == "2 checks, 1 failed"


def test_as_json(tmp_path: Path) -> None:
    outcome = program("ops", "check", single_file(tmp_path, "two", TABLE), "--json")
    assert outcome.code == 1
    right, wrong = json.loads(outcome.out)
    assert (right["rule"], right["ok"], wrong["rule"], wrong["ok"]) == (
        "right",
        True,
        "wrong",
        False,
    )
    assert 0 < right["error"] < right["tolerance"] < wrong["error"]
    assert "x 2x3x101" in right["shapes"]


def test_rules_are_listed(tmp_path: Path) -> None:
    path = single_file(tmp_path, "two", TABLE)
    outcome = program("ops", "list", path)
    assert outcome.out.splitlines()[0] == "two: Two ways to be SiLU."
    assert outcome.out.splitlines()[2].split() == ["cpu", "right", "SiLU"]
    (record,) = json.loads(program("ops", "list", path, "--json").out)
    assert [rule["rule"] for rule in record["rules"]] == ["right", "wrong"]


def test_every_encoding_is_tried() -> None:
    encodings = [*ENCODINGS]
    results = checked(Rule("product", patterns.linear, emit_product))
    assert [result.encodings for result in results] == [{"weight": name} for name in encodings]
    assert all(result.ok for result in results)
    tried = {result.encodings["weight"]: result.shapes for result in results}
    assert "x 1x4x50, weight 21x50" in tried["f32"]  # whose rows are no whole blocks
    assert not any("21x50" in shape for shape in tried["q4_0"])


def test_a_layout_that_is_wrong_for_one_encoding_fails_for_it_alone() -> None:
    def values(encoding: Any, stored: Any) -> Any:
        from pipelines.common.encodings.convert import dequantize

        scale = np.float32(1.01 if encoding.name == "q4_1" else 1)
        return dequantize(encoding, stored) * scale

    def emit(op: Emitter, x: Any, weight: Any) -> Any:
        matrix = op.weight(weight, "values", op.shape(weight), constant=False)
        return op.MatMul(x, op.Transpose(matrix, perm=[1, 0]))

    rule = Rule("product", patterns.linear, emit, {"weight": ("q4_0", "q4_1")})
    rule = Rule(rule.name, rule.pattern, rule.emit, rule.encodings, package="test")
    results = checked(rule, layouts={"values": values})
    assert [result.ok for result in results] == [True, False]
    assert results[1].error == pytest.approx(0.01, rel=0.1)


def test_stored_bytes_are_what_the_encoding_says() -> None:
    """The bytes of q8_0 rows, decoded by ONNX's own operators."""

    def emit(op: Emitter, x: Any, weight: Any) -> Any:
        rows, columns = op.shape(weight)
        blocks = columns // 32
        stored = op.weight(weight, "stored", (rows, blocks * 34), np.uint8, constant=False)
        stored = op.Reshape(stored, op.Constant(value_ints=[rows, blocks, 34]))
        scale, codes = op.Split(stored, op.Constant(value_ints=[2, 32]), axis=2, _outputs=2)
        low, high = op.Split(op.Cast(scale, to=7), axis=2, num_outputs=2, _outputs=2)
        bits = op.Add(low, op.Mul(high, op.Constant(value_int=256)))
        sign, exponent, fraction = (
            op.Mod(op.Div(bits, op.Constant(value_int=2**by)), op.Constant(value_int=2**width))
            for by, width in ((15, 1), (10, 5), (0, 10))
        )
        magnitude = op.Mul(
            op.Add(op.Constant(value_float=1.0), op.Div(single(op, fraction), number(op, 1024))),
            op.Pow(number(op, 2), op.Sub(single(op, exponent), number(op, 15))),
        )
        signed = op.Mul(magnitude, op.Sub(number(op, 1), op.Mul(number(op, 2), single(op, sign))))
        integers = op.Cast(op.Cast(codes, to=3), to=1)
        matrix = op.Reshape(op.Mul(integers, signed), op.Constant(value_ints=[rows, columns]))
        return op.MatMul(x, op.Transpose(matrix, perm=[1, 0]))

    def single(op: Emitter, value: Any) -> Any:
        return op.Cast(value, to=1)

    def number(op: Emitter, value: float) -> Any:
        return op.Constant(value_float=float(value))

    (result,) = checked(Rule("bytes", patterns.linear, emit, {"weight": ("q8_0",)}))
    assert result.ok, result


@pytest.mark.parametrize("name", ["GroupQueryAttention with rotation", "RotaryEmbedding"])
def test_rules_over_a_state(name: str) -> None:
    (result,) = checked(of_the_target(name))
    assert result.ok, result


def prompt_and_steps(generator: np.random.Generator) -> Iterator[Mapping[str, Any]]:
    return islice(EXAMPLES[patterns.attention](generator), 3)


def test_a_state_that_is_not_kept_shows() -> None:
    """Each single call is right; only the one after it can tell."""
    stock = of_the_target("GroupQueryAttention")

    def emit(op: Emitter, inputs: AttentionInputs) -> Any:
        mixed, new_key, new_value = stock.emit(op, inputs)
        return mixed, new_key, op.Sub(new_value, new_value)

    (result,) = checked(Rule("forgets", patterns.attention, emit, examples=prompt_and_steps))
    assert result.problem is None
    assert not result.ok


def test_a_state_in_another_type() -> None:
    """It has the declared type, and holds what the operators of the rule left there."""
    stock = of_the_target("GroupQueryAttention")

    def emit(op: Emitter, past_key: Any, past_value: Any, **bound: Any) -> Any:
        halves = [op.keep_state_in(half, np.float16) for half in (past_key, past_value)]
        past_key, past_value = (op.Cast(half, to=1) for half in halves)
        inputs = AttentionInputs(past_key=past_key, past_value=past_value, **bound)
        mixed, *new = stock.emit(op, inputs)
        return mixed, *(op.Cast(half, to=10) for half in new)

    (result,) = checked(
        Rule("halves", patterns.attention, emit, tolerance=2e-3, examples=prompt_and_steps)
    )
    assert result.ok, result
    assert result.error > 1e-5


def gate(op: Any, x: Any, norm: Any, epsilon: Any, gate: Any, up: Any) -> Any:
    x = op.RMSNorm(x, norm, epsilon=epsilon)
    return op.SiLU(op.Linear(x, gate)) * op.Linear(x, up)


def emit_gate(op: Emitter, x: Any, norm: Any, epsilon: Any, gate: Any, up: Any) -> Any:
    scale = op.weight(norm, "float32", (op.width(x),))
    x = op.SimplifiedLayerNormalization(x, scale, axis=-1, epsilon=epsilon.as_float())
    gated, raised = (emit_product(op, x, weight) for weight in (gate, up))
    return op.Mul(op.Mul(gated, op.Sigmoid(gated)), raised)


def gate_examples(generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    for rows in (1, 5):
        yield {
            "x": generator.normal(size=(1, rows, 256)),
            "norm": generator.normal(size=256),
            "epsilon": 1e-5,
            "gate": generator.normal(0, 0.1, (19, 256)),
            "up": generator.normal(0, 0.1, (19, 256)),
        }


def test_a_fusion_of_neutral_and_standard_operators() -> None:
    encodings = {"gate": ("q4_0", "q8_0"), "up": ("q8_0",)}
    results = checked(Rule("gate", gate, emit_gate, encodings, examples=gate_examples))
    assert sorted(result.encodings["gate"] for result in results) == ["q4_0", "q8_0"]
    assert {result.encodings["up"] for result in results} == {"q8_0"}
    assert all(result.ok for result in results), results
    assert results[0].operators == "RMSNorm + Linear + SiLU + Mul"
    assert len(results[0].shapes) == 2


def problem(rule: Rule, **contents: Any) -> str:
    (result,) = checked(rule, **contents)
    assert not result.ok
    assert result.problem is not None
    return result.problem


def identity(op: Emitter, **bound: Any) -> Any:
    return op.Identity(next(iter(bound.values())))


def test_what_cannot_be_tried() -> None:
    def doubled(op: Any, x: Any) -> Any:
        return op.SiLU(op.SiLU(x))

    def elsewhere(op: Any, x: Any) -> Any:
        return op.SiLU(op.Relu(x, _domain="elsewhere"))

    def unknown(op: Any, x: Any) -> Any:
        return op.SiLU(op.Frobnicate(x))

    def x(_: np.random.Generator) -> list[dict[str, Any]]:
        return [{"x": np.ones((1, 2, 3))}]

    assert "no `examples`" in problem(Rule("a", doubled, identity))
    assert "lacks x" in problem(Rule("a", doubled, identity, examples=lambda _: [{"y": 1}]))
    assert "its pattern does not match" in problem(Rule("a", elsewhere, identity, examples=x))
    assert "operator Frobnicate" in problem(Rule("a", unknown, identity, examples=x))
    k50 = Rule(
        "a",
        patterns.linear,
        emit_product,
        {"weight": ("q4_0",)},
        examples=lambda _: [{"x": np.ones((1, 1, 50)), "weight": np.ones((3, 50))}],
    )
    assert "whole blocks" in problem(k50)


@pytest.mark.parametrize(
    "weight",
    [
        np.ones((2, 3, 32)),
        np.ones(()),
        np.ones((0, 32)),
        np.ones((3, 32), np.int32),
        np.array([["a"]]),
        1.5,
        None,
    ],
)
def test_weights_that_no_model_has(weight: Any) -> None:
    rule = Rule(
        "a",
        patterns.linear,
        emit_product,
        {"weight": ("f32",)},
        examples=lambda _: [{"x": np.ones((1, 1, 32)), "weight": weight}],
    )
    assert "for the weight weight; expected a vector or a matrix of numbers" in problem(rule)


def test_an_example_that_is_none() -> None:
    rule = Rule("a", patterns.silu, identity, examples=lambda _: [3])  # type: ignore[list-item]
    assert problem(rule) == "an example is a int, expected a mapping"


def test_a_weight_that_the_rule_does_not_tell(tmp_path: Path) -> None:
    """Of a rule's functions, what they raise is told of them; others are tried all the same."""
    source = UNTOLD + TABLE.partition("PACKAGE")[0]
    outcome = program("ops", "check", single_file(tmp_path, "untold", source + ROWS))
    assert outcome.code == 1
    assert outcome.err == ""
    assert "op package 'untold': emit of rule 'rows' fails: ValueError: table is no weight" in (
        outcome.out
    )
    assert "op package 'untold': examples of rule 'none' fails: ZeroDivisionError" in outcome.out
    assert "3 checks, 2 failed" in outcome.out


def test_what_the_runtime_says_is_the_problem() -> None:
    def nowhere(op: Emitter, x: Any) -> Any:
        return op.Nothing(x, _domain="nowhere")

    def reshape(op: Emitter, x: Any) -> Any:
        return op.Reshape(x, op.Constant(value_ints=[7]))

    assert "nowhere:Nothing" in problem(Rule("a", patterns.silu, nowhere))
    assert "Reshape" in problem(Rule("a", patterns.silu, reshape))


def test_an_example_that_goes_on_from_nothing() -> None:
    def examples(generator: np.random.Generator) -> Iterator[Mapping[str, Any]]:
        _, step, *_ = EXAMPLES[patterns.attention](generator)
        yield step

    stock = of_the_target("GroupQueryAttention")
    rule = Rule("a", stock.pattern, stock.emit, examples=examples)
    assert "starts with [7] tokens in the state" in problem(rule)


def operators(name: str, *, wrong: bool) -> Callable[[], None]:
    def declare() -> None:
        def shape(x: Spec, cap: float) -> Spec:  # noqa: ARG001
            return x.with_shape(1, 2) if wrong else x

        def reference(x: torch.Tensor, cap: float) -> torch.Tensor:
            return cap * torch.tanh(x / cap)

        neutral_operator(name, shape)(reference)

    return declare


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong shape rule"])
def test_a_new_operator(wrong: bool) -> None:
    name = f"CheckedCap{int(wrong)}"

    def pattern(op: Any, x: Any, cap: Any) -> Any:
        return getattr(op, name)(x, cap=cap)

    def emit(op: Emitter, x: Any, cap: Any) -> Any:
        limit = op.Constant(value_float=cap.as_float())
        return op.Mul(op.Tanh(op.Div(x, limit)), limit)

    def examples(generator: np.random.Generator) -> Iterator[dict[str, Any]]:
        yield {"x": generator.normal(0, 50, (2, 3, 5)), "cap": 30.0}

    rule = Rule("cap", pattern, emit, examples=examples)
    (result,) = checked(rule, operators=operators(name, wrong=wrong))
    assert result.ok == (not wrong)
    if wrong:
        assert result.problem == (
            f"the shape rule of operator {name} says [1, 2], its reference makes [2, 3, 5]"
        )


def test_a_package_without_rules_for_the_cpu(tmp_path: Path) -> None:
    path = single_file(tmp_path, "x", TABLE.replace('"cpu"', '"torch"'))
    assert "has no rules for the target cpu" in program("ops", "check", path).error
