"""Graphs of a network that is none, as they are kept in a cache."""

from __future__ import annotations

from types import SimpleNamespace

from pipelines.common.cache import Cache
from pipelines.common.encodings import Q4_0, Encoding
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.nn.network import Network
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.program.target import Deployment


def network(cache: Cache, function: str = "json:loads", runs_in: Encoding = Q4_0) -> ModuleProgram:
    weights = SimpleNamespace(encodings={"w": runs_in})
    return ModuleProgram(function, Network(), {}, weights, cache, lambda _: {})  # type: ignore[arg-type]


def cache_of(deployment: Deployment) -> Cache:
    assert isinstance(deployment.program, ModuleProgram)
    return deployment.program.cache


def get(deployment: Deployment, target: str = "cpu") -> LoweredGraph:
    return deployment.program.lowered(deployment, target, (), "float32")
