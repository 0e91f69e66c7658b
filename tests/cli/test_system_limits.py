"""Limits of the system: one line that names the limit, and never a traceback."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.common.cli.environment import explained
from pipelines.common.errors import PipelineError, SystemLimitError, UsageError

SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"

RUN = ["llama3", "--prompt", "x", "--max-new-tokens", "1", "--quiet"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold to these limits")
@pytest.mark.parametrize(
    ("kind", "limit", "name"),
    [
        (resource.RLIMIT_AS, 64 << 20, "ulimit -v"),
        (resource.RLIMIT_NOFILE, 5, "ulimit -n"),
    ],
)
def test_a_limit_of_the_process_is_named(kind, limit, name):
    done = subprocess.run(
        [sys.executable, SCRIPT, *RUN],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each would want memory of its own
        preexec_fn=lambda: resource.setrlimit(kind, (limit, limit)),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("run_pipeline: error: ")
    assert done.stderr.count("\n") == 1
    assert name in done.stderr


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (MemoryError(), "ulimit -v"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ulimit -v"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENFILE, "Too many open files in system"), "ulimit -n"),
        (ImportError("x.so: failed to map segment from shared object"), "ulimit -v"),
        (ImportError("x.so: cannot allocate memory in static TLS block"), "ulimit -v"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (RuntimeError("std::bad_alloc"), "ulimit -v"),
        (Exception("Error while reading: Too many open files (os error 24)"), "ulimit -n"),
    ],
)
def test_what_the_system_does_not_give(error, name):
    with pytest.raises(SystemLimitError) as caught, explained():
        raise error
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        OSError(errno.EIO, "Input/output error"),
        ImportError("a bug"),
        ModuleNotFoundError("No module named 'mine'", name="mine"),
        KeyError("x"),
        UsageError("wrong"),
    ],
)
def test_all_else_stays_what_it_is(error):
    with pytest.raises(type(error)) as caught, explained():
        raise error
    assert caught.value is error
    assert not isinstance(error, PipelineError) or str(error) == "wrong"
