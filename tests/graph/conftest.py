from __future__ import annotations

import onnx_ir as ir
import pytest

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.graph.build import build
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
    )


@pytest.fixture(scope="session")
def neutral(config: DecoderConfig) -> ir.Model:
    """The neutral graph of Llama 3; lowering would use it up."""
    return build(lambda: model.build(config), config)
