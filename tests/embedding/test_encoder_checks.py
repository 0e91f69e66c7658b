"""Encoders are checked as decoders are, and may have numbers of a family's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import BertConfig, BertModel

from pipelines.common.errors import ParameterError
from pipelines.testing import (
    STAND_INS,
    STOCK_CPU,
    Check,
    CheckSkippedError,
    Subject,
    check_export,
    check_steps,
    check_texts,
    check_twin,
    pipeline_checks,
    twin_numbers,
)

SUBJECT = Subject.of("minilm")

NAMED = [
    "metadata",
    "variety of vectors",
    "batches on cpu",
    "batches on coreml's graph on the CPU",
    "graph from the cache",
    "stored in q6_k",
    "asked for in q4_0",
]
"""Those that no other test of encoders makes superfluous."""


@pytest.mark.parametrize("check", [c for c in pipeline_checks(SUBJECT) if str(c) in NAMED], ids=str)
def test_checks(check: Check) -> None:
    check()


def test_every_check_of_decoders_has_its_like() -> None:
    names = {str(check).replace("vectors", "logits") for check in pipeline_checks(SUBJECT)}
    assert NAMED[1].replace("vectors", "logits") in names
    decoders = {str(check) for check in pipeline_checks(Subject.of("llama3"))}
    assert {name for name in decoders - names if not name.startswith("steps on")} == set()


def test_transformers() -> None:
    model = BertModel(BertConfig(**twin_numbers(SUBJECT)), add_pooling_layer=False)
    check_twin(SUBJECT, model)


def test_there_are_no_steps() -> None:
    with pytest.raises(CheckSkippedError, match="of encoders"):
        check_steps(SUBJECT, STOCK_CPU)


SCALED = """
from dataclasses import dataclass, replace
from pipelines.plugin import EncoderConfig, Spec, encoder, hookimpl, key, nn

@hookimpl
def register_pipelines():
    return [encoder("scaled", "Scaled.", architectures=("scaled",), network=f"{__name__}:build")]

@dataclass(frozen=True)
class Config(EncoderConfig):
    scale: float = key("scale", 1.0, least=0.5, most=4)

class Scaled(nn.Encoder):
    def __init__(self, config):
        super().__init__(config)
        self.scale = config.scale

    @property
    def interface(self):
        own = super().interface
        return replace(own, gives={**own.gives, "pooled": Spec(("batch", self.hidden_size))})

    def forward(self, inputs):
        vectors = super().forward(inputs)["vectors"] * self.scale
        return {"vectors": vectors, "pooled": vectors.mean(1)}

def build(config: Config):
    return Scaled(config)
"""


def test_a_family_with_a_number_and_a_result_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "scaled_plugin.py"
    path.write_text(SCALED)
    plain = Subject.of("scaled", path)
    twice = Subject.of("scaled", path, config={"scale": 2.0, "layers": 1})
    assert twice.open().config.layers == 1
    for backend in (STOCK_CPU, *STAND_INS):
        check_texts(twice, backend)
    check_export(twice)
    once = plain.varied(config={"layers": 1})
    assert abs(twice.reference / once.reference - 2).max() < 1e-5
    with pytest.raises(ParameterError, match="kv_heads"):
        plain.varied(config={"kv_heads": 2}).open()
