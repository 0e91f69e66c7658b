from __future__ import annotations

from pathlib import Path

import pytest
from native_nodes import kernels


@pytest.fixture(scope="session", autouse=True)
def native_library() -> Path:
    return kernels()
