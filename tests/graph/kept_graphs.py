"""Graphs of a network that is none, as they are kept in a cache."""

from __future__ import annotations

from types import SimpleNamespace

from pipelines.common.cache import Cache
from pipelines.common.encodings.encodings import Q4_0, Encoding
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.program.network import Network
from pipelines.common.program.target import Job


def network(cache: Cache, function: str = "json:loads", runs_in: Encoding = Q4_0) -> Network:
    weights = SimpleNamespace(encodings={"w": runs_in})
    return Network(function, weights, cache, lambda _: {})  # type: ignore[arg-type]


def cache_of(job: Job) -> Cache:
    assert isinstance(job.program, Network)
    return job.program.cache


def get(job: Job, target: str = "cpu") -> LoweredGraph:
    return job.program.lowered(job, target, (), "float32")
