"""What a killed export has written is deleted by the next one beside it, and by no other."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models

from pipelines.common.export import staging
from pipelines.common.export.staging import new_folder
from pipelines.common.export.write import export

SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"

STUCK = """
import sys, time
from pipelines.common.export import write
from pipelines.common.registry.hookspecs import hookimpl

def stuck(path):
    print("writing", flush=True)
    time.sleep(600)

write.describe_file = stuck

@hookimpl
def register_pipelines():
    return []
"""


@pytest.fixture
def stuck_export(gguf_file, tmp_path):
    """The program, which has written the weights and goes no further."""
    plugin = tmp_path / "stuck.py"
    plugin.write_text(STUCK)
    out = tmp_path / "exports" / "killed"
    args = ["--plugin-path", plugin, "export", "llama3", "--model-path", gguf_file, out]
    options = ["--target", "cpu", "--quantization-encoding", "auto", "--quiet"]
    command = [sys.executable, SCRIPT, *args, *options]
    # What a plugin prints goes to stderr.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr.readline() == "writing\n"
            yield process
        finally:
            process.kill()


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_the_next_export_deletes_what_a_killed_one_has_left(stuck_export, gguf_file, tmp_path):
    folder = tmp_path / "exports"
    (written,) = left(folder)
    assert (folder / written / "folder" / "weights.bin").stat().st_size > 100_000
    model = tiny_models.open_model(gguf_file, encoding="auto")
    export(model, "cpu", folder / "beside", reference_weights=True)
    assert left(folder) == [written]  # it lives

    stuck_export.send_signal(signal.SIGKILL)
    assert stuck_export.wait() == -signal.SIGKILL
    assert left(folder) == [written]
    export(model, "cpu", folder / "after", reference_weights=True)
    assert sorted(path.name for path in folder.iterdir()) == ["after", "beside"]


def test_only_what_an_export_has_left_is_deleted(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "lock").touch()
    (tmp_path / f"{staging._PREFIX}link").symlink_to(mine)
    (tmp_path / f"{staging._PREFIX}file").touch()
    for name, files in {"empty": [], "rest": ["weights.bin"], "dead": ["lock", "x"]}.items():
        dead = tmp_path / f"{staging._PREFIX}{name}"
        dead.mkdir()
        for file in files:
            (dead / file).touch()
    with new_folder(tmp_path / "new") as made:
        (made / "content").touch()
    assert left(tmp_path) == [f"{staging._PREFIX}file", f"{staging._PREFIX}link"]
    assert (mine / "lock").exists()
    assert (tmp_path / "new" / "content").exists()


def test_a_writer_that_was_swept_before_it_held_its_lock_begins_again(tmp_path, monkeypatch):
    def sweeps_first(lock, operation, take=staging.fcntl.flock):
        monkeypatch.setattr(staging.fcntl, "flock", take)
        staging._sweep(tmp_path)
        take(lock, operation)

    monkeypatch.setattr(staging.fcntl, "flock", sweeps_first)
    with new_folder(tmp_path / "new") as made:
        (made / "content").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
