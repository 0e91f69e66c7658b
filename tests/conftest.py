from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator

import hypothesis
import pytest

from pipelines.common.importing import PREFIX
from pipelines.common.program import sources

# A machine that is busy is no failure.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

# Some tests import ONNX Runtime themselves, before the cpu target keeps it from reporting home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


# What a shell runs in the background has Ctrl-C ignored, and so would the programs of tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Tests that run side by side have a core each: threads that spin on the same one take all the time.
if hasattr(os, "sched_setaffinity") and (worker := os.environ.get("PYTEST_XDIST_WORKER", "")):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


# What importing all tests leaves stays to the end: the collector need not go through it every time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(10_000)  # the usual 700 objects are a few lines of a test
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[None]:
    """A cache for the whole run, so that a graph is built once and the user's cache is let be."""
    base = tmp_path_factory.getbasetemp()
    cache = (base if worker_id == "master" else base.parent) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUN_PIPELINE_CACHE", str(cache))
        patch.delenv("RUN_PIPELINE_CACHE_LIMIT", raising=False)
        # Nor do graphs depend on what tests import, of which each would be looked at every time.
        loaded = {name.partition(".")[0] for name in sys.modules}
        apart = {name for name in loaded if name != "pipelines" and not name.startswith(PREFIX)}
        apart -= sources.LIBRARIES.keys()
        patch.setattr(sources, "_UNCOUNTED", sources._UNCOUNTED | apart)
        yield
