"""Tries what a package's rules emit for the CPU against the references of their patterns.

A rule's pattern is run on examples twice: by the references of its operators, on decoded weights;
and as a graph, lowered with the rule, by ONNX Runtime with the package's library, on a model file
that holds the weights in one encoding after the other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.encodings import ENCODINGS, F32, Encoding
from pipelines.common.errors import OpPackageError, PipelineError
from pipelines.common.graph.lower import lower
from pipelines.common.graph.pattern_trace import Traced, trace
from pipelines.common.graph.rules import Rule
from pipelines.common.op_check import reference
from pipelines.common.op_check.compiled import CompiledExample
from pipelines.common.op_check.example_weights import fits, weight_file
from pipelines.common.op_check.examples import EXAMPLES, Examples
from pipelines.common.op_check.reference import Reference
from pipelines.common.program.package import LoadedPackage
from pipelines.common.program.weights import WeightSource
from pipelines.common.targets.cpu.rules import RULES

TARGET = "cpu"
"""The target whose rules are tried."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Checked:
    """What became of a rule with its weights in certain encodings.

    Attributes:
        rule: Name of the rule.
        operators: The operators of its pattern, as ``RoPE + Attention``.
        encodings: What each of its matrices was in, by parameter.
        shapes: The tensors of each example, as ``x 1x3x96, weight 19x96``.
        error: Largest error, relative to the largest expected value.
        tolerance: The error that the rule allows itself.
        problem: Why it could not be tried to the end; None if it could.
    """

    rule: str
    operators: str
    encodings: Mapping[str, str]
    shapes: tuple[str, ...]
    error: float
    tolerance: float
    problem: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it was tried, ran, and came near enough."""
        return self.problem is None and self.error <= self.tolerance


def check(package: LoadedPackage) -> Iterator[Checked]:
    """Tries every rule that a package has for the CPU, in every encoding that it takes.

    Raises:
        OpPackageError: The package has no rules for the CPU, or cannot declare its operators.
    """
    package.declare_operators()
    rules = package.rules(TARGET)
    if not rules:
        raise OpPackageError(
            f"op package '{package.name}' ({package.path}) has no rules for the target {TARGET},"
            " the one that is checked"
        )
    for rule in rules:
        pattern = trace(rule.pattern)
        for encodings in _combinations(rule, pattern):
            yield _Trial(package, rule, pattern, encodings).result(_examples(rule, pattern))


def _examples(rule: Rule, pattern: Traced) -> Examples | None:
    """What to try a rule on: its own examples, or those of the shared pattern that it has.

    The pattern may be spelled in other words.
    """
    if rule.examples is not None:
        return rule.examples
    for shared, examples in EXAMPLES.items():
        other = trace(shared)
        if other.structure == pattern.structure:
            names = dict(zip(other.parameters, pattern.parameters, strict=True))
            return partial(_renamed, examples, names)
    return None


def _renamed(
    examples: Examples, names: Mapping[str, str], generator: np.random.Generator
) -> Iterator[Mapping[str, Any]]:
    """Examples under other names of the parameters."""
    for example in examples(generator):
        yield {names[name]: value for name, value in example.items()}


def _combinations(rule: Rule, pattern: Traced) -> list[dict[str, Encoding]]:
    """Encodings by weight: all the matrices in the same one as far as they take it."""
    choices = {
        node.inputs[1].name: tuple(ENCODINGS)
        for node in pattern.nodes
        if node.operator in ("Linear", "Embedding")
    }
    choices |= {
        name: stored
        for name, taken in rule.encodings.items()
        if (stored := tuple(encoding for encoding in taken if encoding in ENCODINGS))
    }
    choices |= dict.fromkeys(_vectors(pattern), (F32.name,))
    combinations: list[dict[str, Encoding]] = []
    for wanted in ENCODINGS:
        combination = {
            weight: ENCODINGS[wanted if wanted in taken else taken[0]]
            for weight, taken in choices.items()
        }
        if combination not in combinations:
            combinations.append(combination)
    return combinations


def _vectors(pattern: Traced) -> set[str]:
    """The weights of a pattern that are vectors, or stacks of such, which run in float32."""
    places = {"RMSNorm": (1,), "LayerNorm": (1, 2), "Attention": (7,), "Experts": (5, 6, 7)}
    return {
        node.inputs[place].name
        for node in pattern.nodes
        for place in places.get(node.operator, ())
        if place < len(node.inputs)
    }


def _stacks(pattern: Traced) -> set[str]:
    """The weights of a pattern that are stacks of matrices."""
    experts = (node for node in pattern.nodes if node.operator == "Experts")
    return {weight.name for node in experts for weight in node.inputs[2:5]}


class _Trial:
    """A rule that is tried with its weights in certain encodings."""

    def __init__(
        self,
        package: LoadedPackage,
        rule: Rule,
        pattern: Traced,
        encodings: Mapping[str, Encoding],
    ) -> None:
        self._package = package
        self._rule = rule
        self._pattern = pattern
        self._encodings = encodings
        self._shapes: list[str] = []
        self._error = 0.0
        self._weights: Mapping[str, Array] = {}
        self._source: WeightSource | None = None
        self._decoded: Mapping[str, Array] = {}
        # What the KV state holds after the last call: as the package has it, and as it should be.
        self._state: dict[str, Array] = {}
        self._expected_state: dict[str, Array] = {}
        self._total: Array = np.zeros(0, np.int32)

    def result(self, examples: Examples | None) -> Checked:
        """Goes through the examples."""
        problem = None
        try:
            if examples is None:
                raise OpPackageError("has a pattern of its own, and no `examples` to try it on")
            with tempfile.TemporaryDirectory() as folder:
                for example in examples(np.random.default_rng(0)):
                    self._try(example, Path(folder))
            if not self._shapes:
                raise OpPackageError("no example has rows that are whole blocks of the encoding")
        except PipelineError as error:
            problem = str(error)
        return Checked(
            rule=self._rule.name,
            operators=self._pattern.operators,
            encodings={
                name: encoding.name
                for name, encoding in self._encodings.items()
                if name not in _vectors(self._pattern)
            },
            shapes=tuple(self._shapes),
            error=self._error,
            tolerance=self._rule.tolerance,
            problem=problem,
        )

    def _try(self, example: Mapping[str, Any], folder: Path) -> None:
        """Runs one example, unless its weights cannot be in these encodings."""
        if not isinstance(example, Mapping):
            raise OpPackageError(f"an example is a {type(example).__name__}, expected a mapping")
        if missing := set(self._pattern.parameters) - self._pattern.optional - example.keys():
            raise OpPackageError(f"an example lacks {', '.join(sorted(missing))}")
        arrays, attributes = {}, {}
        for name in self._pattern.parameters:
            if name not in example:
                continue
            if isinstance(example[name], np.ndarray):
                arrays[name] = _single(example[name])
            else:
                attributes[name] = example[name]
        tensors = {name: x for name, x in arrays.items() if name not in self._encodings}
        stacks = _stacks(self._pattern)
        weights = {
            name: _weight(name, example[name], is_stack=name in stacks)
            for name in self._encodings
            if name in example
        }
        if not all(fits(values, self._encodings[name]) for name, values in weights.items()):
            return
        self._shapes.append(
            ", ".join(f"{name} {'x'.join(map(str, x.shape))}" for name, x in arrays.items())
        )
        source = self._stored(weights, folder)
        expected = self._expected(tensors, attributes)
        actual = self._actual(tensors, source, expected)
        for name, wanted in expected.expected.items():
            if name in actual:
                self._error = max(
                    self._error, _relative_error(actual[name], wanted, expected.lengths)
                )

    def _stored(self, weights: Mapping[str, Array], folder: Path) -> WeightSource:
        """A file of an example's weights: the one before, where that has the same arrays."""
        same = weights.keys() == self._weights.keys() and all(
            weights[name] is values for name, values in self._weights.items()
        )
        if self._source is None or not same:
            path = folder / f"{len(self._shapes)}.gguf"
            self._source = weight_file(path, weights, self._encodings)
            self._decoded = {name: self._source.float32(name) for name in weights}
            self._weights = weights
        return self._source

    def _expected(self, tensors: Mapping[str, Array], attributes: Mapping[str, Any]) -> Reference:
        """What comes out by the references; goes on with the state where the example does."""
        past = reference.past(self._pattern)
        if past is not None and tensors[past].any():
            if not np.array_equal(tensors[past], self._total):
                raise OpPackageError(
                    f"an example starts with {tensors[past].tolist()} tokens in the state, and the"
                    f" one before it left {self._total.tolist()}"
                )
            tensors = {**tensors, **self._expected_state}
        else:
            self._state = {}
        result = reference.run(self._pattern, tensors, self._decoded, attributes)
        if result.lengths is not None:
            self._total = result.lengths[1]
        self._expected_state = {s.parameter: result.expected[s.written] for s in result.state}
        return result

    def _actual(
        self,
        tensors: Mapping[str, Array],
        source: WeightSource,
        expected: Reference,
    ) -> dict[str, Array]:
        """What the package makes of the example: the outputs by name, without the KV state."""
        others = [rule for rule in self._package.rules(TARGET) if rule is not self._rule]
        rules = [self._rule, *others, *RULES]
        graph = lower(expected.model, rules, source.encodings, TARGET)
        if not any(taken.rule == self._rule.name for taken in graph.taken):
            raise OpPackageError("does not take its own example: its pattern does not match")
        session = CompiledExample(graph, source, self._package)
        for state in expected.state:
            if state.read not in self._state:
                shape = tensors[state.parameter].shape
                self._state[state.read] = np.zeros(shape, session.dtype(state.read))
        updated = {state.written: self._state[state.read] for state in expected.state}
        outputs = {
            name: _unwritten(wanted)
            for name, wanted in expected.expected.items()
            if name not in updated
        }
        session.run({**tensors, **self._state}, {**outputs, **updated})
        return outputs


def _single(array: Array) -> Array:
    """An array as it can be bound, in float32 if it is of floating point."""
    return np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else None)


def _weight(name: str, value: Any, *, is_stack: bool) -> Array:
    """A weight of an example, as model files have them.

    Raises:
        OpPackageError: It is none.
    """
    array = np.asarray(value)
    dimensions = (3,) if is_stack else (1, 2)
    if array.dtype.kind != "f" or array.ndim not in dimensions or not array.size:
        raise OpPackageError(
            f"an example has {array.dtype} {list(array.shape)} for the weight {name}; expected a"
            f" {'stack of matrices' if is_stack else 'vector or a matrix'} of numbers"
        )
    return _single(array)


def _unwritten(wanted: Array) -> Array:
    """Memory for an output, in which what is not written shows."""
    if wanted.dtype.kind == "f":
        return np.full(wanted.shape, np.nan, np.float32)
    return np.zeros_like(wanted)


def _relative_error(actual: Array, expected: Array, lengths: tuple[Array, Array] | None) -> float:
    """Largest difference, relative to the largest expected value.

    What comes out for the padding of rows that are shorter than others is left out.
    """
    difference = np.abs(actual - expected)
    if lengths is not None:
        past, total = lengths
        padding = np.arange(expected.shape[1]) >= (total - past)[:, None]
        difference[padding] = 0
    largest = np.abs(expected).max(initial=np.finfo(np.float32).tiny)
    return float(np.nan_to_num(difference.max(initial=0) / largest, nan=np.inf))
