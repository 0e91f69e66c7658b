from __future__ import annotations

import pytest

from pipelines.common.errors import OpPackageError
from pipelines.common.registry import Registry


@pytest.fixture(scope="session", autouse=True)
def native_library() -> None:
    """The kernels have to be there; the installation builds them where there is a compiler."""
    try:
        registry = Registry.discover()
        registry.load_op_package(registry.typed_op_package("native"))
    except OpPackageError as error:
        pytest.skip(f"the native kernels cannot be used: {error}")
