"""Models by their names on the hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, serving

from pipelines.common.errors import HubError, UsageError
from pipelines.common.hub.choice import choose
from pipelines.common.hub.names import HubName, hub_name
from pipelines.llama3.pipeline import BUNDLED

SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"
SHORT = {"small-1b": "owner/Small-1B"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serving() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        yield made


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("hf:a/b", ("a/b", "", "")),
        ("hf:a/b:Q4_K_M", ("a/b", "Q4_K_M", "")),
        ("hf:a/b/c.gguf", ("a/b", "", "c.gguf")),
        ("hf:a/b/c/d.gguf", ("a/b", "", "c/d.gguf")),
        ("a/b-GGUF", ("a/b-GGUF", "", "")),
        ("a/b:iq4_xs", ("a/b", "iq4_xs", "")),
        ("small-1b", ("owner/Small-1B", "", "")),
        ("small-1b:Q8_0", ("owner/Small-1B", "Q8_0", "")),
    ],
)
def test_names(typed: str, expected: tuple[str, str, str]) -> None:
    assert hub_name(Path(typed), SHORT) == HubName(typed, *expected)


@pytest.mark.parametrize(
    "typed", ["model.gguf", "a/b.gguf", "a/b/c", "/a/b", "./a", "../a/b", "a", "other-1b", "~/a"]
)
def test_paths(typed: str) -> None:
    assert hub_name(Path(typed), SHORT) is None


def test_what_is_there_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    assert hub_name(Path("a/b"), SHORT) is None  # a typing error in a folder that is there
    Path("small-1b").touch()
    assert hub_name(Path("small-1b"), SHORT) is None
    assert hub_name(Path("hf:a/b"), SHORT) is not None


@pytest.mark.parametrize(
    "typed", ["hf:", "hf:a", "hf:a/../b", "hf:a/b/../../c", "hf:a/b:Q 4", "hf:-a/b"]
)
def test_no_names(typed: str) -> None:
    with pytest.raises(UsageError, match="is no model of the hub; expected hf:owner/name"):
        hub_name(Path(typed), SHORT)


FILES = [
    "README.md",
    "mmproj-model-f16.gguf",
    "model-Q4_K_M.gguf",
    "model-Q8_0-00001-of-00002.gguf",
    "model-Q8_0-00002-of-00002.gguf",
    "model.BF16.gguf",
]


def test_a_quantization_is_chosen() -> None:
    assert choose(HubName("", "a/b", "q4_k_m"), FILES) == (["model-Q4_K_M.gguf"], FILES[2])
    assert choose(HubName("", "a/b", "Q8_0"), FILES) == (FILES[3:5], FILES[3])
    assert choose(HubName("", "a/b", file=FILES[4]), FILES) == (FILES[3:5], FILES[4])


def test_a_folder_is_chosen() -> None:
    there = ["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json"]
    there += ["tokenizer.json", "1_Pooling/config.json"]
    others = ["onnx/model.onnx", "pytorch_model.bin", "original/consolidated.00.pth", "README.md"]
    assert choose(HubName("", "a/b"), [*there, *others]) == (sorted(there), "")


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        (HubName("", "a/b"), FILES, "has 3 models in GGUF files; say which, as in a/b:Q4_K_M: Q4_"),
        (HubName("", "a/b", "Q2_K"), FILES, "has nothing in Q2_K; there are Q4_K_M, Q8_0, BF16"),
        (HubName("", "a/b", "Q2_K"), ["x"], "has nothing in Q2_K; there are no GGUF files"),
        (HubName("", "a/b", "", "x.gguf"), FILES, "has no file x.gguf; it has README.md"),
        (HubName("", "a/b"), ["a.bin"], "has no model that can be read: .*; it has a.bin"),
    ],
)
def test_there_is_no_choice(name: HubName, files: list[str], message: str) -> None:
    with pytest.raises(HubError, match=message):
        choose(name, files)


def test_a_file_is_fetched_once_and_runs_offline(hub: FakeHub) -> None:
    hub.repos["owner/tiny-GGUF"] = {"tiny-F16.gguf": BUNDLED.read_bytes(), "README.md": b"x"}
    options = ("--prompt", "Once", "--max-new-tokens", "3")
    first = run("run", "owner/tiny-GGUF:f16", *options)
    assert first.returncode == 0, first.stderr
    assert "getting owner/tiny-GGUF from the hub: 1 file, 0.01 GB" in first.stderr
    assert first.stdout
    assert hub.fetched == ["tiny-F16.gguf"]
    again = run("llama3", "--model-path", "hf:owner/tiny-GGUF/tiny-F16.gguf", *options)
    assert (again.stdout, hub.fetched) == (first.stdout, ["tiny-F16.gguf"])
    assert "getting" not in again.stderr
    offline = run("run", "hf:owner/tiny-GGUF", *options, HF_HUB_OFFLINE="1")
    assert offline.stdout == first.stdout
    assert "metadata" in run("inspect", "owner/tiny-GGUF", "--json").stdout


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "GatedRepo"), "owner/it is gated: accept its terms at http://127"),
        ((404, "RepoNotFound"), "the hub has no model owner/it, or it is private"),
        ((418, "Teapot"), "the hub answers otherwise than it should for owner/it"),
    ],
)
def test_what_the_hub_refuses(hub: FakeHub, refusal: tuple[int, str], message: str) -> None:
    hub.refusals["owner/it"] = refusal
    done = run("inspect", "owner/it")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    if refusal[0] == 404:
        assert "nor is there a file or folder owner/it here" in done.stderr


@pytest.mark.usefixtures("hub")
def test_no_network_and_nothing_fetched() -> None:
    done = run("inspect", "owner/it", HF_ENDPOINT="http://127.0.0.1:9")
    assert "owner/it cannot be fetched: http://127.0.0.1:9 is not reached" in done.stderr
    assert done.stderr.count("\n") == 1
    done = run("run", "owner/it", "--offline", "--prompt", "x")
    assert "owner/it was not fetched before, and nothing may be fetched now" in done.stderr
    assert "leave out --offline and HF_HUB_OFFLINE" in done.stderr


def test_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.common.hub import fetch

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(HubError, match=r"a/b takes 5.00 GB, and .* has 0.00 GB left; make room"):
        fetch._check_room(HubName("a/b", "a/b"), 5 * 10**9)
