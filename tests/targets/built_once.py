"""Saves tests that lower one network in many ways from tracing it each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import pytest

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.graph.build import build


@contextmanager
def built_once() -> Iterator[Callable[..., ir.Model]]:
    """Inside, networks of one config are built once; gives what builds them."""
    models: dict[DecoderConfig, Any] = {}

    def built(network: Callable[[], Any], config: DecoderConfig) -> ir.Model:
        if config not in models:
            models[config] = ir.to_proto(build(network, config))
        return ir.from_proto(models[config])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.common.graph.build.build", built)
        yield built
