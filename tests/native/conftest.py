from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.common.errors import OpPackageError
from pipelines.common.registry.registry import Registry


@pytest.fixture(scope="session", autouse=True)
def native_library() -> Path:
    """The kernels, which have to be there; the installation builds them with a compiler."""
    try:
        registry = Registry.discover()
        library = registry.packages.load(registry.packages.typed("native")).library
    except OpPackageError as error:
        pytest.skip(f"the native kernels cannot be used: {error}")
    assert library is not None
    return library
