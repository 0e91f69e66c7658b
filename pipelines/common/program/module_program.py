"""A network and the weights of a checkpoint: what graphs are made of."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipelines.common.cache import Cache
from pipelines.common.errors import LoweringError, NoRuleError
from pipelines.common.graph.rules import LoweredGraph, LoweredWeight, Rule
from pipelines.common.nn.interface import Interface
from pipelines.common.nn.network import Network
from pipelines.common.program.origin import Origin
from pipelines.common.program.package import Layout, LoadedPackage
from pipelines.common.program.store import lowered_graph
from pipelines.common.program.target import Check, Deployment
from pipelines.common.program.tensors import Made, identity, make_tensors
from pipelines.common.program.weights import WeightSource
from pipelines.common.progress import Progress


@dataclass(frozen=True)
class ModuleProgram:
    """Implements `pipelines.common.program.target.Program`.

    Attributes:
        function: ``"package.module:function"``, which has made the network.
        network: The network.
        numbers: See `Program.numbers`.
        weights: The weights, each in the encoding that it is to run in.
        cache: Where lowered graphs are kept.
        packages_with: Names of the op packages that have a rule for an operator, with the targets
            that they have it for.
        folder: See `Program.folder`.
    """

    function: str
    network: Network
    numbers: Mapping[str, Any]
    weights: WeightSource
    cache: Cache
    packages_with: Callable[[str], Mapping[str, Sequence[str]]]
    folder: None = field(default=None, init=False)

    @cached_property
    def interface(self) -> Interface:
        """See `Program.interface`."""
        return self.network.interface

    @property
    def encodings(self) -> Mapping[str, str]:
        """See `Program.encodings`."""
        return {name: encoding.name for name, encoding in self.weights.encodings.items()}

    def origin(self, progress: Progress) -> Origin:
        """See `Program.origin`."""
        return self.weights.origin(progress)

    def lowered(
        self,
        deployment: Deployment,
        target: str,
        rules: Sequence[Rule],
        activations: str,
        check: Check | None = None,
    ) -> LoweredGraph:
        """See `Program.lowered`; the graph comes from the cache or is newly made.

        Raises:
            LoweringError: No rule takes an operator; it names the packages that have one. Or the
                check refuses the graph.
        """
        try:
            return lowered_graph(self, deployment, target, rules, activations, check)
        except NoRuleError as error:
            with_one = self.packages_with(error.operator)
            listed = [f"'{name}' (for {', '.join(on)})" for name, on in with_one.items()]
            known = f"known are {', '.join(listed)}" if listed else "none is registered"
            advice = f"an op package that has one is named with `custom_ops`; {known}"
            raise LoweringError(f"{error}; {advice}") from error

    def identity(self, weight: LoweredWeight) -> Hashable:
        """See `Program.identity`."""
        return identity(self.weights, weight)

    def tensors(
        self,
        graph: LoweredGraph,
        layouts: Mapping[str, Layout],
        packages: Sequence[LoadedPackage] = (),
    ) -> Iterator[Made]:
        """See `Program.tensors`."""
        return make_tensors(self.weights, graph.weights, layouts, packages)

    def declared(self, deployment: Deployment) -> Network:
        """The network, whose operators are declared: it can be written down, or run.

        Raises:
            OpPackageError: An op package cannot declare its operators.
        """
        for package in deployment.packages:
            package.declare_operators()
        return self.network
