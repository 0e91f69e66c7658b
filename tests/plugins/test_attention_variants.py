"""Windows, caps and sinks of attention, in every combination, on every target."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from tiny_models import llama, open_model, random_tokens, write_gguf

from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Deployment
from pipelines.testing import on_coreml, on_cuda

TOKENS = random_tokens(40)

PLUGIN = """
from dataclasses import dataclass
from pipelines.plugin import DecoderConfig, decoder, hookimpl, key, nn

@dataclass(frozen=True)
class Config(DecoderConfig):
    window: int = key("test.window", 0)
    cap: float = key("test.cap", 0.0)
    sinks: bool = key("test.sinks", False)

@hookimpl
def register_pipelines():
    return [
        decoder("variants", "Llama.", architectures=("variants",), network=f"{__name__}:build")
    ]

def build(config: Config):
    options = {"window": config.window, "cap": config.cap, "sinks": config.sinks}
    attentions = [nn.Attention(config, **options) for _ in range(config.layers)]
    return nn.Decoder(config, [nn.Block(config, attention) for attention in attentions])
"""

VARIANTS = [*product((0, 6), (0.0, 0.5), (False, True))]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "variants_plugin"
    path.mkdir()
    (path / "__init__.py").write_text(PLUGIN)
    return path


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda v: f"window {v[0]}, cap {v[1]}, {v[2]}")
def variant(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bool]:
    """A file, and whether it is of plain attention."""
    window, cap, sinks = request.param
    metadata = {"test.window": window, "test.cap": cap, "test.sinks": sinks}
    values = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    path = write_gguf(
        tmp_path_factory.mktemp("variant") / "m.gguf",
        llama(),
        metadata={f"variants.{name}": value for name, value in metadata.items()},
        architecture="variants",
        more={f"blk.{n}.attn_sinks.weight": each for n, each in enumerate(values)} if sinks else {},
    )
    return path, not any(request.param)


@pytest.fixture(scope="module")
def expected(variant: tuple[Path, bool], plugin: Path) -> NDArray[np.float32]:
    """What the reference makes of it."""
    path, is_plain = variant
    model = open_model(path, pipeline="variants", plugins=[plugin], target="torch")
    logits = model.start(slots=1, max_length=64).score(TOKENS)
    if not is_plain:
        plain = open_model(write_gguf(path.with_name("plain.gguf"), llama()), target="torch")
        others = plain.start(slots=1, max_length=64).score(TOKENS)
        assert np.abs(others - logits).max() > 0.05
    return logits


@pytest.mark.parametrize("native_ops", [True, False])
def test_on_the_cpu(
    variant: tuple[Path, bool], expected: NDArray[np.float32], plugin: Path, native_ops: bool
) -> None:
    model = open_model(variant[0], pipeline="variants", plugins=[plugin], native_ops=native_ops)
    runner = model.start(slots=2, max_length=64)
    np.testing.assert_allclose(runner.score(TOKENS), expected, atol=1e-4)
    runner.prefill(0, TOKENS[:-1])
    np.testing.assert_allclose(runner.decode(TOKENS[-1:])[0], expected[-1], atol=1e-4)


@pytest.mark.parametrize(
    ("start", "tolerance"), [(on_coreml, 0.05), (on_cuda, 1e-4)], ids=["coreml", "cuda"]
)
def test_graphs_for_other_targets_on_the_cpu_provider(
    variant: tuple[Path, bool],
    expected: NDArray[np.float32],
    plugin: Path,
    start: Callable[[Deployment], Runner],
    tolerance: float,
) -> None:
    model = open_model(variant[0], pipeline="variants", plugins=[plugin])
    runner = start(model.deployment(slots=1, max_length=64))
    np.testing.assert_allclose(runner.prefill(0, TOKENS), expected[-1], atol=tolerance)


def test_heads_that_grouped_attention_does_not_take(plugin: Path, tmp_path: Path) -> None:
    """They are attended to in standard operators."""
    path = write_gguf(
        tmp_path / "m.gguf",
        llama(head_dim=12),
        Type.F32,
        metadata={"variants.test.window": 6, "variants.test.cap": 0.5, "variants.test.sinks": True},
        architecture="variants",
        more={f"blk.{n}.attn_sinks.weight": np.float32([0, 1, -1, 2]) for n in range(2)},
    )
    results = [
        open_model(path, pipeline="variants", plugins=[plugin], target=target)
        .start(slots=1, max_length=64)
        .score(TOKENS)
        for target in ("torch", "cpu")
    ]
    np.testing.assert_allclose(results[1], results[0], atol=1e-4)
