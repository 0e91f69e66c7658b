from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Some tests import ONNX Runtime themselves, before the cpu target keeps it from reporting home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for the whole run, so that a graph is built once and the user's cache is let be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUN_PIPELINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("RUN_PIPELINE_CACHE_LIMIT", raising=False)
        yield
