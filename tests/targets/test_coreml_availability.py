"""Whether Core ML is here, and what the user is told where it is not."""

from __future__ import annotations

import platform
import sys

import pytest

from pipelines.common.cli import main
from pipelines.common.ort.session import CPU, Provider
from pipelines.common.targets.coreml import CoreMLTarget


def on_macos(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: (version, ("", "", ""), "arm64"))


def test_elsewhere_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    found = CoreMLTarget().availability()
    assert not found.here
    assert "macOS" in found.reason
    assert not found.device_found


def test_old_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    on_macos(monkeypatch, "13.6.1")
    found = CoreMLTarget().availability()
    assert "macOS 14" in found.reason
    assert "13.6.1" in found.reason
    assert found.fix


def test_build_without_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    on_macos(monkeypatch, "15.1")
    found = CoreMLTarget(Provider("NoSuchProvider")).availability()
    assert "NoSuchProvider" in found.reason
    assert found.fix.startswith("pip install")


def test_it_is_here_with_macos_and_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    on_macos(monkeypatch, "14.0")
    found = CoreMLTarget(CPU).availability()
    assert found.here
    assert len(found.devices) == 1


def test_asked_for_by_name_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(
        sys, "argv", ["run_pipeline.py", "llama3", "--prompt", "x", "--target", "coreml"]
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert "'coreml' cannot run here: it runs on macOS only" in line
    assert captured.out == ""
