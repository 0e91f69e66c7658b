from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from kept_graphs import network
from notices import Notices

from pipelines.common import opened
from pipelines.common.cache import Cache
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.graph import build as build_module
from pipelines.common.graph import lower as lower_module
from pipelines.common.graph.build import build
from pipelines.common.graph.rules import LoweredGraph, LoweredWeight, Taken
from pipelines.common.program import sources
from pipelines.common.program.target import Deployment
from pipelines.llama3 import model


@pytest.fixture(scope="session")
def config() -> DecoderConfig:
    return DecoderConfig(
        vocabulary=40,
        context_length=128,
        hidden_size=64,
        intermediate_size=96,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        norm_epsilon=1e-5,
        rope_base=500000.0,
        interleaved=True,
    )


@pytest.fixture(scope="session")
def neutral(config: DecoderConfig) -> ir.Model:
    """The neutral graph of Llama 3; lowering would use it up."""
    return build(model.build(config), config)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[LoweredGraph]:
    """The graphs made so far; each is another, and none takes time."""
    graphs: list[LoweredGraph] = []

    def make(*_: Any) -> LoweredGraph:
        weight = LoweredWeight("w:codes", "w", "codes", "uint8", (4, len(graphs)), constant=True)
        taken = Taken("a package", "a rule", "SiLU", len(graphs) + 1)
        graphs.append(LoweredGraph(b"graph %d" % len(graphs), (weight,), 96, (taken,)))
        return graphs[-1]

    empty = ir.Model(ir.Graph([], [], nodes=[], name="empty"), ir_version=10)
    monkeypatch.setattr(build_module, "build", lambda *_: empty)
    monkeypatch.setattr(lower_module, "lower", make)
    return graphs


@pytest.fixture
def deployment(
    tmp_path: Path, config: DecoderConfig, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """For a graph with a cache of its own; what other tests have loaded or read does not count."""
    loaded = {name.partition(".")[0] for name in sys.modules} - sources.LIBRARIES.keys()
    monkeypatch.setattr(sources, "_UNCOUNTED", sources._UNCOUNTED | loaded - {"pipelines"})
    monkeypatch.setattr(opened._watch, "files", {})
    progress = Notices()
    return Deployment(
        pipeline="test",
        config=config,
        program=network(Cache(tmp_path / "cache", notice=progress.notice)),
        frequencies=np.ones(8, np.float32),
        slots=1,
        max_length=16,
        threads=None,
        progress=progress,
    )
