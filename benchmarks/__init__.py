"""Measures the project; see README.md for what each command prints."""

import os

# Some import ONNX Runtime themselves, before the cpu target keeps it from reporting home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
