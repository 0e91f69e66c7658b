"""Lowered graphs are kept, and made anew when anything they were made from is another."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from notices import Notices
from tiny_models import llama, open_model, random_tokens, write_gguf

from pipelines.common.cache import Cache
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.errors import LoweringError
from pipelines.common.graph import build, lower
from pipelines.common.graph.network import Network
from pipelines.common.graph.rules import LoweredGraph, LoweredWeight, Taken
from pipelines.common.importing import PREFIX
from pipelines.common.op_packages.package import LoadedPackage, OpPackage
from pipelines.common.target import Job
from pipelines.common.weights.encodings import F32, Q4_0, Encoding
from pipelines.llama3 import model as llama3_model


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
    monkeypatch.setattr(build, "build", lambda *_: empty)
    monkeypatch.setattr(lower, "lower", make)
    return graphs


def network(cache: Cache, function: str = "json:loads", runs_in: Encoding = Q4_0) -> Network:
    weights = SimpleNamespace(encodings={"w": runs_in})
    return Network(function, weights, cache, lambda _: {})  # type: ignore[arg-type]


def cache_of(job: Job) -> Cache:
    assert isinstance(job.program, Network)
    return job.program.cache


@pytest.fixture
def job(tmp_path: Path, config: DecoderConfig) -> Job:
    return Job(
        pipeline="test",
        config=config,
        program=network(Cache(tmp_path / "cache")),
        frequencies=np.ones(8, np.float32),
        slots=1,
        max_length=16,
        threads=None,
        progress=Notices(),
    )


def get(job: Job, target: str = "cpu") -> LoweredGraph:
    return job.program.lowered(job, target, (), "float32")


def test_second_time_it_comes_from_the_cache(job: Job, made: list[LoweredGraph]) -> None:
    first = get(job)
    assert job.progress.from_cache == set()
    assert get(job) == first
    assert len(made) == 1
    assert job.progress.from_cache == {"build", "lower"}
    assert job.progress.messages == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        {"pipeline": "other"},
        {"function": "json:dumps"},
        {"runs_in": F32},
        {"packages": (LoadedPackage("one", Path("one"), OpPackage("One.")),)},
    ],
    ids=["pipeline", "network", "encodings", "op packages"],
)
def test_other_models_have_entries_of_their_own(
    job: Job, made: list[LoweredGraph], change: dict[str, Any]
) -> None:
    if "pipeline" not in change and "packages" not in change:
        change = {"program": network(cache_of(job), **change)}
    other = dataclasses.replace(job, **change)
    graphs = [get(job), get(other)]
    assert len(made) == 2
    assert [get(job), get(other)] == graphs


@pytest.mark.parametrize("change", [{"layers": 3}, {"norm_epsilon": 1e-6}])
def test_other_dimensions_have_entries_of_their_own(
    job: Job, made: list[LoweredGraph], change: dict[str, Any]
) -> None:
    other = dataclasses.replace(job, config=dataclasses.replace(job.config, **change))
    graphs = [get(job), get(other)]
    assert len(made) == 2
    assert [get(job), get(other)] == graphs


def test_other_targets_have_entries_of_their_own(job: Job, made: list[LoweredGraph]) -> None:
    graphs = [get(job, "cpu"), get(job, "other")]
    assert len(made) == 2
    assert [get(job, "cpu"), get(job, "other")] == graphs


def test_other_activations_have_entries_of_their_own(job: Job, made: list[LoweredGraph]) -> None:
    graphs = [job.program.lowered(job, "cuda", (), kind) for kind in ("float32", "float16")]
    assert graphs == made


def test_one_network_is_built_once_for_all_that_it_is_lowered_for(
    job: Job, made: list[LoweredGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    get(job, "cpu")
    monkeypatch.setattr(build, "build", lambda *_: pytest.fail("it is built again"))
    get(job, "cuda")
    other = dataclasses.replace(job, program=network(cache_of(job), runs_in=F32))
    get(other, "cpu")
    assert len(made) == 3
    assert job.progress.from_cache == {"build"}


def test_sources_of_the_network_are_those_of_every_graph_made_of_it(
    job: Job, made: list[LoweredGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a process took the network from the cache and never loaded them."""
    source = tmp_path / "some_model.py"
    source.write_text("A = 1\n")
    module = ModuleType("some_model")
    module.__file__ = str(source)
    monkeypatch.setitem(sys.modules, "some_model", module)
    get(job, "cpu")
    monkeypatch.delitem(sys.modules, "some_model")
    get(job, "cuda")
    source.write_text("A = 2\n")
    get(job, "cuda")
    assert len(made) == 3


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("graph.onnx", lambda content: bytes(len(content))),
        ("graph.json", lambda content: bytes(len(content))),
        ("graph.json", lambda content: content.replace(b'"layout"', b'"lay_ut"')),
        ("graph.json", lambda content: content.replace(b'"sources"', b'"s_urces"')),
    ],
    ids=["model", "no JSON", "another version's", "half of it"],
)
def test_a_damaged_entry_is_made_anew_with_a_notice(
    job: Job, made: list[LoweredGraph], name: str, damage: Callable[[bytes], bytes]
) -> None:
    get(job)
    (lowered,) = (entry for entry in cache_of(job).entries() if " for " in entry.description)
    file = lowered.path / name
    file.write_bytes(damage(file.read_bytes()))
    assert get(job) == made[1]
    (notice,) = job.progress.messages  # type: ignore[attr-defined]
    assert "damaged" in notice
    assert "\n" not in notice
    assert get(job) == made[1]


def test_sizes_of_a_run_do_not_matter(job: Job, made: list[LoweredGraph]) -> None:
    get(job)
    get(dataclasses.replace(job, slots=4, max_length=99, threads=3))
    assert len(made) == 1


@pytest.mark.parametrize("edit", [lambda path: path.write_text("A = 2\n"), Path.unlink])
def test_a_source_that_has_changed_makes_an_entry_stale(
    job: Job,
    made: list[LoweredGraph],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[Path], Any],
) -> None:
    source = tmp_path / "some_rules.py"
    source.write_text("A = 1\n")
    module = ModuleType("some_rules")
    module.__file__ = str(source)
    monkeypatch.setitem(sys.modules, "some_rules", module)
    get(job)
    edit(source)
    assert get(job) == made[1]
    assert get(job) == made[1]
    assert len(made) == 2
    assert len(cache_of(job).entries()) == 2  # before lowering and after


def test_an_op_package_that_moved_is_another(job: Job, made: list[LoweredGraph]) -> None:
    for number, folder in enumerate(("here", "there")):
        package = LoadedPackage("one", Path(folder, "one"), OpPackage("One."))
        assert get(dataclasses.replace(job, packages=(package,))) == made[number]


@pytest.mark.parametrize(("name", "graphs"), [("installed", 1), (f"{PREFIX}installed", 2)])
def test_op_packages_count_where_installed_modules_do_not(
    job: Job,
    made: list[LoweredGraph],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    graphs: int,
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    source = tmp_path / "installed.py"
    source.write_text("A = 1\n")
    module = ModuleType(name)
    module.__file__ = str(source)
    monkeypatch.setitem(sys.modules, name, module)
    get(job)
    source.write_text("A = 2\n")
    get(job)
    assert len(made) == graphs


def test_unwritable_cache_costs_one_notice(
    job: Job, made: list[LoweredGraph], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache")
    job = dataclasses.replace(job, program=network(cache))
    assert get(job) == made[0]
    (notice,) = set(job.progress.messages)  # type: ignore[attr-defined]
    assert "\n" not in notice
    assert str(cache.root) in notice


PLUGIN = """
from pipelines.common.hookspecs import PipelineRecord, hookimpl

@hookimpl
def register_pipelines():
    return [PipelineRecord("copied", "Llama 3, copied.", load=load)]

def load():
    from pipelines.common.decoder.pipeline import DecoderPipeline
    from pipelines.common.decoder.weights import decoder_weights
    return DecoderPipeline(
        name="copied",
        architecture="llama",
        network=f"{__name__}.model:build",
        weights=decoder_weights,
    )
"""

RUN = """
import json, sys
from pathlib import Path
from pipelines.common.importing import PREFIX
from pipelines.common.op_packages.package import LoadedPackage, OpPackage
from pipelines.common.progress import Progress
from pipelines.common.registry import Registry
from pipelines.common.text_generation import ModelOptions

plugin, path, targets, tokens = sys.argv[1:]
registry = Registry.discover([Path(plugin)])
logits, progress = {}, Progress()
for target in targets.split():
    options = ModelOptions(model_path=Path(path), encoding="float32", target=target)
    model = registry.load_pipeline("copied").open(options, registry, progress)
    logits[target] = model.start(slots=1, max_length=8).score(json.loads(tokens)).tolist()
heavy = [name for name in ("torch", "onnx", "onnx_ir", "onnxscript") if name in sys.modules]
print(json.dumps([logits, sorted(progress.from_cache), heavy]))
"""


def test_plugin_whose_model_is_edited(tmp_path: Path) -> None:
    """Later runs need no torch; after an edit the new model runs, on every target."""
    plugin = tmp_path / "copied"
    plugin.mkdir()
    (plugin / "__init__.py").write_text(PLUGIN)
    shutil.copy(llama3_model.__file__, plugin / "model.py")
    path = write_gguf(tmp_path / "model.gguf", llama())

    def run(targets: str = "cpu") -> tuple[dict[str, Any], list[str], list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", RUN, plugin, path, targets, json.dumps(random_tokens(8))],
            env={**os.environ, "RUN_PIPELINE_CACHE": str(tmp_path / "cache")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        logits, from_cache, heavy = json.loads(done.stdout)
        return {target: np.array(values) for target, values in logits.items()}, from_cache, heavy

    first, from_cache, heavy = run()
    assert from_cache == []
    assert "torch" in heavy

    second, from_cache, heavy = run()
    assert from_cache == ["build", "lower"]
    assert heavy == []
    np.testing.assert_array_equal(second["cpu"], first["cpu"])

    source = (plugin / "model.py").read_text()
    edited = source.replace("interleaved=True", "interleaved=False")
    assert edited != source
    (plugin / "model.py").write_text(edited)
    third, from_cache, _ = run("cpu torch")
    assert from_cache == []
    assert np.abs(third["cpu"] - first["cpu"]).max() > 0.1
    np.testing.assert_allclose(third["cpu"], third["torch"], atol=1e-4)


def test_an_operator_without_a_rule_names_the_packages_that_have_one(tmp_path: Path) -> None:
    """No target has a rule for anything under a name that only this test knows."""
    path = write_gguf(tmp_path / "model.gguf", llama())
    model = open_model(path, native_ops=False)
    job = model.job(slots=1, max_length=16)
    with pytest.raises(LoweringError) as error:
        job.program.lowered(job, "nowhere", (), "float32")
    message = str(error.value)
    assert "target nowhere has no rule for operator Embedding with a weight in f32" in message
    assert "'native' (for cpu)" in message
    assert "--custom-ops-path" in message
    assert "\n" not in message
