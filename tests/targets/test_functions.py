"""Networks that take and give what only they declare, on every target."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from pipelines.common import nn, ops
from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import metadata_of
from pipelines.common.checkpoints.random import RandomCheckpoint
from pipelines.common.checkpoints.table import tensor_shapes
from pipelines.common.errors import PluginError
from pipelines.common.export.write import export
from pipelines.common.ops import Spec
from pipelines.common.pipeline_check.stand_ins import CoreMLOnCpu, CudaOnCpu
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.program.target import Deployment
from pipelines.common.program.weights import WeightSource
from pipelines.common.progress import Progress
from pipelines.common.targets.cpu import CpuTarget
from pipelines.common.targets.torch import TorchTarget
from pipelines.testing import STAND_INS, STOCK_CPU, Subject, check_export, check_steps

WIDTH, ROWS = 32, 10
TARGETS = [TorchTarget(), CpuTarget(), CudaOnCpu(), CoreMLOnCpu()]


@dataclass(frozen=True)
class Toy:
    """The numbers of `Graded`."""

    summed: bool = False


class Graded(nn.Network):
    """Takes tokens with the kind and the weight of each; gives vectors, and scores or a sum."""

    def __init__(self, config: Toy) -> None:
        self.words = nn.Embedding(ROWS, WIDTH)
        self.kinds = nn.Embedding(3, WIDTH, "kinds")
        self.head = nn.Linear(WIDTH, 4, "head")
        self.summed = config.summed

    @property
    def interface(self) -> nn.Interface:
        rest = {"sums": Spec(("batch", WIDTH))} if self.summed else {}
        return nn.Interface(
            vocabulary=ROWS,
            hidden_size=WIDTH,
            widest=WIDTH,
            caches=(),
            ropes=(),
            takes={
                "tokens": Spec(("batch", "sequence"), "int64"),
                "kinds": Spec(("batch", "sequence"), "int64"),
                "grades": Spec(("batch", "sequence", 1)),
            },
            gives={
                "vectors": Spec(("batch", "sequence", WIDTH)),
                "scores": Spec(("batch", "sequence", 4)),
                **rest,
            },
        )

    def forward(self, inputs: Any) -> dict[str, Any]:
        x = self.words(inputs["tokens"]) + self.kinds(inputs["kinds"])
        x = x * inputs["grades"]
        x = x + ops.self_attention(x, x, x, 16, 0.25)
        made = {"vectors": x, "scores": self.head(x)}
        return {**made, "sums": x.mean(1)} if self.summed else made


def deployment(tmp_path: Path, config: Toy) -> Deployment:
    network = Graded(config)
    table = network.weights()
    metadata = metadata_of(Path("toy"), {"general.architecture": "toy"})
    file = RandomCheckpoint(Path("toy"), metadata, tensor_shapes(table))
    cache = Cache(tmp_path, 1 << 30)
    weights = WeightSource(file, table, "float32", cache, warn=pytest.fail)
    program = ModuleProgram(
        f"{__name__}:Graded", network, asdict(config), weights, cache, lambda _: {}
    )
    return Deployment("toy", program, 1, 32, Progress())


def arrays(length: int = 5) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    return {
        "tokens": random.integers(ROWS, size=(2, length)),
        "kinds": random.integers(3, size=(2, length)),
        "grades": random.standard_normal((2, length, 1)).astype(np.float32),
    }


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
def test_arrays_of_any_name(tmp_path: Path, target: Any, summed: bool) -> None:
    here = deployment(tmp_path, Toy(summed))
    expected = TorchTarget().start_function(here)(arrays())
    made = target.start_function(here)(arrays())
    assert made.keys() == here.interface.gives.keys()
    for name, array in made.items():
        assert array.shape == expected[name].shape
        allowed = 0.01 if isinstance(target, CoreMLOnCpu) else 1e-5
        np.testing.assert_allclose(array, expected[name], atol=allowed)


DECODER = """
from dataclasses import replace

from pipelines.plugin import DecoderConfig, Spec, decoder, hookimpl, nn

@hookimpl
def register_pipelines():
    return [decoder("more", "More.", architectures=("more",), network=f"{__name__}:build")]

class More(nn.Decoder):
    @property
    def interface(self):
        own = super().interface
        more = {"TAKES": Spec(("batch", "sequence"), "int64")} if "TAKES" else {}
        gives = {**own.gives, "hidden": Spec(("batch", "sequence", 64))}
        return replace(own, takes={**own.takes, **more}, gives=gives)

    def forward(self, inputs):
        return {**super().forward(inputs), "hidden": self.embed(inputs["tokens"])}

def build(config: DecoderConfig):
    return More(config, [nn.Block(config) for _ in range(config.layers)])
"""


def decoder(tmp_path: Path, takes: str) -> Subject:
    path = tmp_path / "more_plugin.py"
    path.write_text(DECODER.replace("TAKES", takes))
    return Subject.of("more", path)


def test_a_decoder_gives_more_than_logits(tmp_path: Path) -> None:
    subject = decoder(tmp_path, "")
    for backend in (STOCK_CPU, *STAND_INS):
        check_steps(subject, backend)
    check_export(subject)
    export(subject.open(), "cpu", tmp_path / "out", reference_weights=False)
    exported = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    assert {"logits", "hidden"} <= {value.name for value in exported.graph.output}


def test_a_decoder_that_takes_what_nobody_has(tmp_path: Path) -> None:
    subject = decoder(tmp_path, "speakers")
    with pytest.raises(PluginError, match="takes speakers, which nothing here has for it"):
        STOCK_CPU.start(subject)
