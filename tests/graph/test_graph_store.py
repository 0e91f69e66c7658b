"""Lowered graphs are kept, and made anew when anything they were made from is another."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kept_graphs import cache_of, get, network
from tiny_models import llama, open_model, random_tokens, write_gguf

from pipelines.common.cache import Cache
from pipelines.common.encodings import F32
from pipelines.common.errors import LoweringError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.program import store
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.program.package import LoadedPackage, OpPackage
from pipelines.common.program.target import Deployment
from pipelines.llama3 import model as llama3_model


def test_second_time_it_comes_from_the_cache(
    deployment: Deployment, made: list[LoweredGraph]
) -> None:
    first = get(deployment)
    assert deployment.progress.from_cache == set()
    assert get(deployment) == first
    assert len(made) == 1
    assert deployment.progress.from_cache == {"build", "lower"}
    assert deployment.progress.messages == []  # type: ignore[attr-defined]


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
    deployment: Deployment, made: list[LoweredGraph], change: dict[str, Any]
) -> None:
    if "pipeline" not in change and "packages" not in change:
        change = {"program": network(cache_of(deployment), **change)}
    other = dataclasses.replace(deployment, **change)
    graphs = [get(deployment), get(other)]
    assert len(made) == 2
    assert [get(deployment), get(other)] == graphs


@pytest.mark.parametrize("change", [{"layers": 3}, {"norm_epsilon": 1e-6}])
def test_other_dimensions_have_entries_of_their_own(
    deployment: Deployment, made: list[LoweredGraph], change: dict[str, Any]
) -> None:
    assert isinstance(deployment.program, ModuleProgram)
    other = dataclasses.replace(
        deployment, program=dataclasses.replace(deployment.program, numbers=change)
    )
    graphs = [get(deployment), get(other)]
    assert len(made) == 2
    assert [get(deployment), get(other)] == graphs


def test_other_targets_have_entries_of_their_own(
    deployment: Deployment, made: list[LoweredGraph]
) -> None:
    graphs = [get(deployment, "cpu"), get(deployment, "other")]
    assert len(made) == 2
    assert [get(deployment, "cpu"), get(deployment, "other")] == graphs


def test_other_activations_have_entries_of_their_own(
    deployment: Deployment, made: list[LoweredGraph]
) -> None:
    graphs = [
        deployment.program.lowered(deployment, "cuda", (), kind) for kind in ("float32", "float16")
    ]
    assert graphs == made


def lowered_entry(deployment: Deployment) -> Path:
    (entry,) = (e for e in cache_of(deployment).entries() if " for " in e.description)
    return entry.path


@pytest.mark.parametrize("name", ["graph.onnx", "graph.json"])
def test_a_damaged_entry_is_made_anew_with_a_notice(
    deployment: Deployment, made: list[LoweredGraph], name: str
) -> None:
    get(deployment)
    file = lowered_entry(deployment) / name
    file.write_bytes(bytes(file.stat().st_size))
    assert get(deployment) == made[1]
    (notice,) = deployment.progress.messages  # type: ignore[attr-defined]
    assert "damaged" in notice
    assert "\n" not in notice
    assert get(deployment) == made[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"model": "', b'"model": "0'),
        (b'"layout"', b'"lay_ut"'),
        (b'"sources"', b'"s_urces"'),
        (b'"places"', b'"pl_ces"'),
    ],
)
def test_an_entry_of_another_version_is_made_anew_with_a_notice(
    deployment: Deployment, made: list[LoweredGraph], old: bytes, new: bytes
) -> None:
    get(deployment)
    path = lowered_entry(deployment)
    index, model = (path / "graph.json").read_bytes(), (path / "graph.onnx").read_bytes()
    assert old in index

    def write(folder: Path) -> None:
        (folder / "graph.json").write_bytes(index.replace(old, new))
        (folder / "graph.onnx").write_bytes(model)

    cache_of(deployment).discard("graph", path.name)
    cache_of(deployment).put("graph", path.name, write, "test for cpu")
    assert get(deployment) == made[1]
    (notice,) = deployment.progress.messages  # type: ignore[attr-defined]
    assert "damaged" in notice
    assert "\n" not in notice
    assert get(deployment) == made[1]


def test_sizes_of_a_run_do_not_matter(deployment: Deployment, made: list[LoweredGraph]) -> None:
    get(deployment)
    get(dataclasses.replace(deployment, slots=4, max_length=99, threads=3))
    assert len(made) == 1


@pytest.mark.parametrize("name", ["versions", "sys"])
def test_other_libraries_or_another_python_have_entries_of_their_own(
    deployment: Deployment, made: list[LoweredGraph], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    of_others = {"versions": lambda: {"onnx": "0"}, "sys": SimpleNamespace(version="3.0")}
    first = get(deployment)
    with monkeypatch.context() as patch:
        patch.setattr(store, name, of_others[name])
        assert get(deployment) == made[1]
        assert len(list(cache_of(deployment).entries())) == 2
    assert get(deployment) == first


def test_an_op_package_that_moved_is_another(
    deployment: Deployment, made: list[LoweredGraph]
) -> None:
    for number, folder in enumerate(("here", "there")):
        package = LoadedPackage("one", Path(folder, "one"), OpPackage("One."))
        assert get(dataclasses.replace(deployment, packages=(package,))) == made[number]


def test_unwritable_cache_costs_one_notice(
    deployment: Deployment, made: list[LoweredGraph], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache")
    deployment = dataclasses.replace(deployment, program=network(cache))
    assert get(deployment) == made[0]
    (notice,) = set(deployment.progress.messages)  # type: ignore[attr-defined]
    assert "\n" not in notice
    assert str(cache.root) in notice


PLUGIN = """
from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl

@hookimpl
def register_pipelines():
    return [PipelineRecord("copied", "Llama 3, copied.", load=load)]

def load():
    from pipelines.common.models.pipeline import DecoderPipeline
    return DecoderPipeline(
        name="copied", architectures=("llama",), network=f"{__name__}.model:build"
    )
"""

RUN = """
import json, sys
from pathlib import Path
from pipelines.common.importing import PREFIX
from pipelines.common.program import store
from pipelines.common.program.package import LoadedPackage, OpPackage
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
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


def test_plugin_whose_table_is_edited(tmp_path: Path) -> None:
    """Later runs need no torch; after an edit the new model runs, on every target."""
    plugin, library = tmp_path / "copied", tmp_path / "library"
    plugin.mkdir()
    library.mkdir()
    (plugin / "__init__.py").write_text(PLUGIN)
    source = Path(llama3_model.__file__).read_text()
    by_table = source.replace(
        "    return Decoder(",
        "    config = dataclasses.replace(config, interleaved=helper.interleaved())\n"
        "    return Decoder(",
    )
    assert by_table != source
    (plugin / "model.py").write_text(
        by_table.replace(
            "import annotations\n", "import annotations\nimport dataclasses\nimport helper\n"
        )
    )
    table = library / "table.json"
    (library / "helper.py").write_text(
        f"import json, pathlib\ndef interleaved():\n"
        f"    return json.loads(pathlib.Path({str(table)!r}).read_text())\n"
    )
    table.write_text("true")
    path = write_gguf(tmp_path / "model.gguf", llama())

    def run(targets: str = "cpu") -> tuple[dict[str, Any], list[str], list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", RUN, plugin, path, targets, json.dumps(random_tokens(8))],
            env={
                **os.environ,
                "RUN_PIPELINE_CACHE": str(tmp_path / "cache"),
                "PYTHONPATH": str(library),
            },
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
    assert heavy == ["onnx", "onnx_ir", "onnxscript"]

    second, from_cache, heavy = run()
    assert from_cache == ["build", "lower"]
    assert heavy == []
    np.testing.assert_array_equal(second["cpu"], first["cpu"])

    table.write_text("false")
    third, from_cache, _ = run("cpu torch")
    assert from_cache == []
    assert np.abs(third["cpu"] - first["cpu"]).max() > 0.1
    np.testing.assert_allclose(third["cpu"], third["torch"], atol=1e-4)


def test_an_operator_without_a_rule_names_the_packages_that_have_one(tmp_path: Path) -> None:
    """No target has a rule for anything under a name that only this test knows."""
    path = write_gguf(tmp_path / "model.gguf", llama())
    model = open_model(path, native_ops=False)
    deployment = model.deployment(slots=1, max_length=16)
    with pytest.raises(LoweringError) as error:
        deployment.program.lowered(deployment, "nowhere", (), "float32")
    message = str(error.value)
    assert "target nowhere has no rule for operator Embedding with a weight in f32" in message
    assert "'native' (for cpu)" in message
    assert "`custom_ops`" in message
    assert "\n" not in message
