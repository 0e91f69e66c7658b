from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.common.errors import ModelFileError, UsageError
from pipelines.common.export.manifest import target_for
from pipelines.common.registry.registry import Registry

ROOT = Path(__file__).parents[2]
LEAN = Path(__file__).with_name("lean_program.py")
EXAMPLE = ROOT / "docs" / "examples" / "run_exported.py"

PROMPT = "Once upon a time"


def run_script(script, *args):
    command = [sys.executable, script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    """The bundled model, exported for the cpu by the program."""
    folder = tmp_path_factory.mktemp("exported") / "out"
    args = ["export", "llama3", "--target", "cpu", folder]
    done = run_script(ROOT / "run_pipeline.py", *args)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert f"exported for cpu: {folder}, " in done.stderr.splitlines()[-1]
    return folder


def test_a_folder_gives_the_text_of_its_model_file(bundled, cli):
    args = ["llama3", "--prompt", PROMPT, "--max-new-tokens", 24]
    outcome = cli(*args, "--model-path", bundled, "--json")  # on the folder's target
    record = json.loads(outcome.out)
    assert record["target"] == "cpu"
    assert record["op_packages"] == []
    expected = cli(*args, "--no-native-ops", "--target", "cpu")
    assert record["text"] == expected.out
    assert len(record["text"]) > 40


def test_that_a_folder_lacks_the_native_kernels_is_said(cli, tmp_path):
    """When it is written and when it is run, where they could be had and are not declined."""
    if state := Registry.discover().op_packages["native"].state():
        pytest.skip(f"native kernels: {state}")
    for native in ([], ["--custom-ops-path", "native"]):
        out = tmp_path / f"out{len(native)}"
        written = cli("export", "llama3", "--target", "cpu", *native, out)
        assert written.code == 0, written.err
        run = ["llama3", "--model-path", out, "--prompt", PROMPT, "--max-new-tokens", 1]
        said = "--custom-ops-path native"
        assert (said in written.err) == (said in cli(*run).err) == (not native)
        if not native:
            assert said not in cli(*run, "--no-native-ops").err
    assert json.loads(cli(*run, "--json").out)["op_packages"] == ["native"]


def test_a_folder_needs_none_of_what_it_was_made_with(bundled, cli):
    args = ["llama3", "--model-path", bundled, "--prompt", PROMPT, "--max-new-tokens", 24]
    lean = run_script(LEAN, *args)
    assert lean.returncode == 0, lean.stderr
    assert lean.stdout == cli(*args).out


def test_the_example_runs_a_folder_on_plain_onnxruntime(bundled, cli):
    source = EXAMPLE.read_text()
    assert len(source.splitlines()) <= 48
    assert "pipelines" not in source
    plain = run_script(EXAMPLE, bundled, PROMPT, 24)
    assert plain.returncode == 0, plain.stderr
    assert plain.stderr == ""
    args = ["llama3", "--model-path", bundled, "--prompt", PROMPT, "--max-new-tokens", 24]
    assert plain.stdout == cli(*args).out + "\n"


def test_the_example_leaves_nothing_in_the_home_folder(bundled, tmp_path):
    """Nor does the program: see ``tests/targets/test_cpu_telemetry.py``."""
    silencers = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in silencers}
    subprocess.run(
        [sys.executable, EXAMPLE, bundled, PROMPT, "1"],
        env={**environment, "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
    )
    assert not list(tmp_path.rglob("*onnxruntime*"))


def test_a_batch_runs_on_a_folder(bundled, cli):
    outcome = cli(
        *("llama3", "--model-path", bundled, "--prompt", PROMPT, "--prompt", "The cat"),
        *("--max-new-tokens", 4, "--quiet"),
    )
    records = [json.loads(line) for line in outcome.out.splitlines()]
    assert len(records) == 2
    assert all(record["text"] for record in records)


def test_tokenize_takes_a_folder(bundled, cli):
    args = ["tokenize", "--ids", "--text", PROMPT]
    assert cli(*args, "--model-path", bundled).out == cli(*args).out


def test_another_target_than_the_folders_is_refused(bundled, cli):
    outcome = cli("llama3", "--model-path", bundled, "--target", "torch", "--prompt", "x")
    assert outcome.code == 2
    assert outcome.error == (
        f"{bundled} was exported for target 'cpu' and does not run on 'torch'; leave out --target,"
        " or export for that one"
    )
    known = ("cpu", "coreml")
    assert target_for(bundled, "auto", known) == target_for(bundled, "cpu", known) == "cpu"
    for path in (None, Path("model.gguf")):
        assert target_for(path, "auto", known) == "auto"
    with pytest.raises(ModelFileError, match=r"for target 'cpu', which nothing here brings; .*: x"):
        target_for(bundled, "auto", ("x",))
    with pytest.raises(UsageError):
        target_for(bundled, "coreml", known)


def test_inspect_checks_every_file_of_a_folder(bundled, cli):
    shown = cli("inspect", bundled)
    assert "target = cpu" in shown.out
    record = json.loads(cli("inspect", bundled, "--json").out)
    assert record["files"]["weights.bin"]["nbytes"] == (bundled / "weights.bin").stat().st_size
    (run,) = record["memory"]["runs"]  # on its own target alone
    assert (run["target"], run["kv"]) == ("cpu", 512 * 2 * 5 * 4 * 32 * 4)

    weights = bundled / "weights.bin"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert cli("inspect", bundled).error == (
            f"{weights} has changed since it was exported; export the model again"
        )
    finally:
        weights.write_bytes(content)


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (["llama3", "--target", "cup"], 2, "unknown target 'cup', did you mean 'cpu'?"),
        (["echo"], 2, "pipeline echo runs without a graph; there is nothing to export"),
        (["llama3", "--model-path", "nowhere.gguf"], 1, "no such model file: nowhere.gguf"),
    ],
)
def test_bad_requests_leave_nothing_behind(cli, tmp_path, args, code, error):
    outcome = cli("export", *args, tmp_path / "out")
    assert outcome.code == code
    assert outcome.error.startswith(error)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_refused_before_anything_is_built(cli, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    outcome = cli("export", "llama3", "--target", "torch", tmp_path)
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].endswith(
        f"{tmp_path} is not empty; name another folder, or delete it first"
    )
