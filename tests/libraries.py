"""Libraries of operators, compiled where there is a compiler, and what a run says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.common.progress import Progress

HEADERS = Path(__file__).parents[1] / "custom_ops" / "include"
SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"


class Messages(Progress):
    """Keeps what a run says."""

    def __init__(self) -> None:
        super().__init__()
        self.notices: list[str] = []
        self.details: list[str] = []

    def notice(self, message: str) -> None:
        self.notices.append(message)

    def detail(self, message: str) -> None:
        self.details.append(message)


def compile_library(path: Path, source: str) -> Path:
    """Compiles C++ to a shared library; skips the test where there is no compiler."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler 'c++' to make a library with")
    code = path.with_suffix(".cc")
    code.write_text(source)
    # What two libraries have under one name is kept apart.
    options = ["-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{HEADERS}"]
    subprocess.run([compiler, *options, str(code), "-o", str(path)], check=True)
    return path


SILU = """
#include <cmath>
#include <cstdlib>
#include "ort_custom_op.h"
using namespace custom_op;

struct SiLU {
  static constexpr const char* name = "SiLU";
  static constexpr Type inputs[] = {Type::float32};
  static constexpr Type outputs[] = {Type::float32};
  explicit SiLU(const Info&) {
    if (std::getenv("SILU_CANNOT_BE_MADE")) throw std::runtime_error("no room: none at all");
  }
  void compute(Context& context) const {
    if (std::getenv("SILU_FAILS")) throw InvalidArgument("a number\\nis odd");
    context.parallel_for(4, [](size_t) {
      if (std::getenv("SILU_FAILS_ON_THREADS")) throw InvalidArgument("a number\\nis odd");
    });
    Tensor x = context.input(0), y = context.output(0, x.shape);
    for (int64_t i = 0; i < x.elements(); ++i)
      y.data<float>()[i] = x.data<float>()[i] / (1 + std::exp(-x.data<float>()[i]));
  }
};

struct Embedding {
  static constexpr const char* name = "Embedding";
  static constexpr Type inputs[] = {Type::int64, Type::float32};
  static constexpr Type outputs[] = {Type::float32};
  explicit Embedding(const Info&) {}
  void compute(Context& context) const {
    Tensor tokens = context.input(0), table = context.input(1);
    int64_t width = table.shape[1];
    std::vector<int64_t> shape = tokens.shape;
    shape.push_back(width);
    Tensor y = context.output(0, shape);
    for (int64_t i = 0; i < tokens.elements(); ++i)
      for (int64_t j = 0; j < width; ++j)
        y.data<float>()[i * width + j] = table.data<float>()[tokens.data<int64_t>()[i] * width + j];
  }
};

CUSTOM_OPS("pipelines", SiLU, Embedding)
"""
