"""How the driver gets at ONNX Runtime."""

from __future__ import annotations

import os
import re
import sys
from types import ModuleType

from pipelines.common import dependencies


def onnxruntime() -> ModuleType:
    """The runtime, which is kept from reporting home, and from logging: its errors are raised.

    Its official builds send usage data from 1.29 on, on Linux too, unless this is set before the
    import; they leave a database for it in the user's cache folder as well.

    Raises:
        DependencyError: What is installed of it will not do.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if "onnxruntime" not in sys.modules:
        dependencies.check("onnxruntime")
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # what is left is what ends the process
    return onnxruntime


def said(error: Exception) -> str:
    """What an error of the runtime says, on one line, without the name and number of its kind."""
    message = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    return " ".join(message.split())


def failures() -> tuple[type[Exception], ...]:
    """What the runtime raises: a class for each of its status codes, which have no common one."""
    state = vars(onnxruntime().capi.onnxruntime_pybind11_state)
    kinds = [kind for kind in state.values() if isinstance(kind, type)]
    return tuple(kind for kind in kinds if issubclass(kind, Exception))
