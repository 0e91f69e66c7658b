from __future__ import annotations

from pathlib import Path

import pytest
from libraries import SILU, SUFFIX, Messages, compile_library


@pytest.fixture
def messages() -> Messages:
    return Messages()


@pytest.fixture(scope="session")
def silu_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare library with two of the neutral operators."""
    return compile_library(tmp_path_factory.mktemp("silu") / f"two_kernels{SUFFIX}", SILU)
