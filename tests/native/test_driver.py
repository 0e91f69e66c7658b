"""The native kernels against scalar arithmetic, by a driver of their own in C++."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "custom_ops" / "native"


@pytest.fixture
def driver(pytestconfig: pytest.Config) -> Path:
    """The driver's program, compiled for this machine; later runs compile what has changed."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("needs CMake")
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        pytest.skip("needs a C++ compiler")
    build = pytestconfig.cache.mkdir("native-driver")
    # -O2, for it compiles in half the time.
    options = ["-DNATIVE_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O2"]
    jobs = str(os.cpu_count() or 1)
    commands: list[list[str | Path]] = [
        [cmake, "-S", SOURCES, "-B", build, *options],
        [cmake, "--build", build, "--target", "driver", "--parallel", jobs],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning:" not in done.stdout + done.stderr, done.stdout + done.stderr
    return build / "driver"


def test_every_check_passes_with_all_that_the_processor_can_run(driver: Path) -> None:
    """One test, since two could be given to workers that would each compile the driver."""
    done = subprocess.run([driver, "--cases", "25"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = done.stdout.splitlines()
    assert len(report) > 10
    assert all(line.startswith("ok ") for line in report)
    checked = {line.split()[1] for line in report}
    assert "portable" in checked
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if _is_linux() else ""
    # Every compiler of C++17 knows these two; of the others, one may be left out.
    for flag, table in (("avx2", "avx2"), ("asimddp", "neon-dotprod")):
        assert (flag in flags.split()) <= (table in checked)


def _is_linux() -> bool:
    return platform.system() == "Linux"
