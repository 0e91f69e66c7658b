"""The whole target on ONNX Runtime's own CUDA provider, over libraries that compute nothing.

That shows that the provider takes every node, and captures the graph as it is bound. It says
nothing about what is computed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_cuda
import pytest
from gguf import GGMLQuantizationType as Type
from tiny_models import MIXED, llama, open_model, write_gguf

from pipelines.common.targets.cuda import CudaTarget

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(fake_cuda.missing() != "", reason=fake_cuda.missing())

RUN = """
import json, sys
from pathlib import Path
from pipelines.common.errors import PipelineError
from pipelines.common.ort.placement import elsewhere
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.targets import cuda
from pipelines.common.text_generation import ModelOptions

sessions = []

def make_session(*arguments):
    sessions.append(made := make(*arguments))
    return made

make, cuda.make_session = cuda.make_session, make_session
cuda.onnxruntime().preload_dlls = lambda: None  # where there are real libraries, it takes these

def run(path, *, packages=(), **choices):
    registry = Registry.discover([])
    options = ModelOptions(
        model_path=Path(path),
        encoding="auto",
        target="cuda",
        custom_ops=tuple(packages),
        native_ops=False,
    )
    model = registry.load_pipeline("llama3").open(options, registry, Progress())
    runner = cuda.CudaTarget(**choices).start(model.deployment(slots=2, max_length=40))
    shapes = [list(runner.prefill(slot, [1, 2, 3]).shape) for slot in range(2)]
    for tokens in ([4, 5], [4, 5], [6]):
        shapes.append(list(runner.advance(tokens).tokens.shape))
    shapes.append(list(runner.decode([1, 2]).shape))
    return shapes
"""


FAILING = """
try:
    run(sys.argv[1])
except PipelineError as error:
    print(json.dumps([type(error).__name__, str(error), len(sessions)]))
"""

PACKAGE = """
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Rule
from pipelines.common.program.package import OpPackage

PACKAGE = OpPackage("none of CUDA's", {"cuda": [
    Rule("asinh", patterns.silu, lambda op, x: op.Asinh(x))
]})
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda")
    fake_cuda.build(folder)
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has the provider given an operator that it has no kernel for."""
    path = tmp_path_factory.mktemp("packages") / "elsewhere.py"
    path.write_text(PACKAGE)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, package: Path) -> dict[str, Path]:
    """Files whose graphs are in the cache."""
    folder, model = tmp_path_factory.mktemp("models"), llama()
    kinds = {"f32": (Type.F32, None), "bf16": (Type.BF16, None), "mixed": (Type.Q4_0, MIXED)}
    paths = {
        name: write_gguf(folder / f"{name}.gguf", model, kind, exceptions=exceptions)
        for name, (kind, exceptions) in kinds.items()
    }
    to_lower: list[tuple[str, CudaTarget, list[Path]]] = [
        *((name, CudaTarget(), []) for name in kinds),
        ("mixed", CudaTarget(fpa_intb_gemm=True), []),
        ("f32", CudaTarget(), [package]),
    ]
    for name, target, packages in to_lower:
        opened = open_model(paths[name], encoding="auto", custom_ops=packages)
        target.lower(opened.deployment(slots=2, max_length=40))
    return paths


@pytest.fixture
def run(libraries: Path) -> Callable[..., Any]:
    """Runs a script on the imaginary GPU; what it prints is JSON, and nothing else is printed."""

    def call(script: str, *arguments: Any, **settings: int) -> Any:
        environment = {f"FAKE_CUDA_{name}": str(value) for name, value in settings.items()}
        done = subprocess.run(
            [sys.executable, "-c", RUN + script, *map(str, arguments)],
            env={**os.environ, "LD_LIBRARY_PATH": str(libraries), **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return call


SHAPES = [[320], [320], [2, 64], [2, 64], [1, 64], [2, 320]]


def test_provider_takes_and_captures_every_graph(
    run: Callable[..., Any], models: dict[str, Path]
) -> None:
    script = """
left = {}
for path in sys.argv[1:]:
    left[Path(path).stem] = run(path), [o for o, _ in elsewhere(sessions[-1], cuda.PROVIDER)]
print(json.dumps(left))
"""
    assert run(script, *models.values()) == {
        "f32": [SHAPES, []],
        "bf16": [SHAPES, ["Cast", "Cast"]],  # of the state's capacity, one a layer
        "mixed": [SHAPES, ["Cast", "Cast"]],
    }


def test_without_capture_and_with_packed_weights(
    run: Callable[..., Any], models: dict[str, Path]
) -> None:
    script = """
path = sys.argv[1]
print(json.dumps([run(path, graph_capture=False), run(path, fpa_intb_gemm=True)]))
"""
    assert run(script, models["mixed"]) == [SHAPES, SHAPES]


def test_too_little_memory_is_told_before_loading(
    run: Callable[..., Any], models: dict[str, Path]
) -> None:
    kind, message, sessions = run(FAILING, models["f32"], FREE_MIB=100)
    assert (kind, sessions) == ("MemoryLimitError", 0)
    assert message.startswith(
        "llama3 on cuda (weights 0.0 GiB, KV 0.0 GiB for each of 2 sequences, working memory 0.3"
    )
    assert "of device memory, 0.1 GiB is available" in message


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"RETAIN": 2}, "device 0, Imaginary GPU (compute capability 9.0), takes no other process"),
        ({"MALLOC": 2}, "target cuda, device 0: Failed to allocate memory for requested buffer of"),
        ({"SET_DEVICE": 46}, "target cuda, device 0: CUDA failure 46: an error"),
        ({"VERSION": 12080}, "target cuda cannot run here: the NVIDIA driver is too old"),
    ],
    ids=["locked", "full", "busy", "old driver"],
)
def test_a_device_that_fails_is_told_in_one_line(
    run: Callable[..., Any], models: dict[str, Path], settings: dict[str, int], told: str
) -> None:
    kind, message, sessions = run(FAILING, models["f32"], **settings)
    assert (kind, sessions) == ("TargetError", 0)
    assert message.startswith(told)
    assert "\n" not in message


def test_nodes_that_fall_to_the_cpu_are_named(
    run: Callable[..., Any], models: dict[str, Path], package: Path
) -> None:
    script = """
for capture in (True, False):
    try:
        run(sys.argv[1], packages=[Path(sys.argv[2])], graph_capture=capture)
    except PipelineError as error:
        sessions.append(str(error))
print(json.dumps([s for s in sessions if isinstance(s, str)]))
"""
    captured, plain = run(script, models["f32"], package)
    assert captured == plain
    assert captured == (
        "CUDAExecutionProvider leaves 2 nodes to the CPU: Asinh (elsewhere/asinh),"
        " Asinh (elsewhere/asinh_1)"
    )
