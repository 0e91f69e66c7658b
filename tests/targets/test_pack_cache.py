from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.common.errors import OfflineError
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.program.kept import keep_packed, ready_tensors
from pipelines.common.program.package import LoadedPackage, OpPackage
from pipelines.common.program.tensors import named
from pipelines.common.progress import Progress
from pipelines.common.registry.environment import discovered
from pipelines.common.targets.cpu import CpuTarget
from pipelines.common.text_generation import ModelOptions


class Notices(Progress):
    def __init__(self):
        super().__init__()
        self.lines = []

    def notice(self, message):
        self.lines.append(message)


@pytest.fixture
def deployment(tmp_path, monkeypatch):
    """The bundled model on stock operators, whose layouts are functions of the target."""
    monkeypatch.setenv("RUN_PIPELINE_CACHE", str(tmp_path / "cache"))
    registry, progress = discovered([], [], strict=True), Notices()
    options = ModelOptions(native_ops=False, pack_cache=True)
    model = registry.load_pipeline("llama3").open(options, registry, progress)
    return model.deployment(slots=1, max_length=16)


@pytest.fixture
def graph(deployment):
    return CpuTarget().lower(deployment)


@pytest.fixture
def counted():
    """The layouts, and how many tensors they were asked to make."""
    calls = []

    def counting(layout):
        def make(encoding, raw):
            calls.append(layout)
            return LAYOUTS[layout](encoding, raw)

        return make

    return {name: counting(name) for name in LAYOUTS}, calls


def test_a_later_start_maps_what_the_first_has_packed(deployment, graph, counted):
    layouts, calls = counted
    plain = named(deployment.program.tensors(graph, layouts))
    made = len(calls)
    assert made > 30
    first = named(ready_tensors(deployment, graph, layouts))
    assert len(calls) == 2 * made
    later = named(ready_tensors(deployment, graph, layouts))
    assert len(calls) == 2 * made
    for kept in (first, later):
        assert kept.keys() == plain.keys()
        for name, array in plain.items():
            np.testing.assert_array_equal(kept[name], array)
    packed = [weight.name for weight in graph.weights if weight.layout in LAYOUTS]
    assert not any(later[name].flags.writeable for name in packed)
    size = sum(weight.nbytes for weight in graph.weights if weight.layout in LAYOUTS)
    told = [line for line in deployment.progress.lines if "packed weights" in line]
    assert told == [f"keeping the packed weights of llama3 in the cache, {size / 1e9:.2f} GB"]


def test_nothing_is_kept_unless_asked_for(deployment, graph, counted):
    layouts, calls = counted
    keep_packed(replace(deployment, pack_cache=False), graph, layouts)
    named(ready_tensors(replace(deployment, pack_cache=False), graph, layouts))
    assert calls
    kinds = {entry.description for entry in deployment.program.cache.entries()}
    assert not any("packed" in description for description in kinds)


def test_what_a_changed_library_reads_is_packed_again(deployment, graph, counted, tmp_path):
    layouts, calls = counted
    library = tmp_path / "libkernels.so"
    package = LoadedPackage("kernels", tmp_path, OpPackage("Kernels."), library)
    deployment = replace(deployment, packages=(package,))
    library.write_bytes(b"one layout")
    keep_packed(deployment, graph, layouts)
    made = len(calls)
    keep_packed(deployment, graph, layouts)
    assert len(calls) == made
    library.write_bytes(b"another one")
    keep_packed(deployment, graph, layouts)
    assert len(calls) == 2 * made


def test_offline_makes_none(deployment, graph):
    deployment.program.cache.offline = True
    with pytest.raises(
        OfflineError, match="the file of the packed weights of llama3 is not in the cache"
    ):
        keep_packed(deployment, graph, LAYOUTS)
