from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"


def test_a_run_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    """ONNX Runtime would keep a database of what it has to report there, and send it."""
    home = tmp_path / "home"
    home.mkdir()
    # With these the runtime reports nothing in any case.
    silencers = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in silencers}
    subprocess.run(
        [sys.executable, str(SCRIPT), "llama3", "--max-new-tokens", "2"],
        env={**environment, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        check=True,
        capture_output=True,
    )
    assert not list(home.rglob("*onnxruntime*"))
