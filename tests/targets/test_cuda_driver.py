"""What is said of CUDA on machines that have it, lack it, or have a part of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import fake_cuda
import pytest

from pipelines.common.cli import main
from pipelines.common.program.target import Availability
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.registry.target_choice import choose
from pipelines.common.targets import cuda
from pipelines.common.targets.cuda import CudaTarget, driver

GIB = 1 << 30


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (missing := fake_cuda.missing_tools()) != "":
        pytest.skip(missing)
    path = tmp_path_factory.mktemp("driver") / "libfake.so"
    fake_cuda.build_driver(path)
    return path


@pytest.fixture
def machine(library: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Availability]:
    """Looks at a machine that has a driver, with settings of it, and all else that is needed."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(driver, "LIBRARY", str(library))
    monkeypatch.setattr(cuda, "LIBRARIES", ())
    runtime = SimpleNamespace(
        get_available_providers=lambda: [cuda.PROVIDER, "CPUExecutionProvider"],
        preload_dlls=lambda: print("Failed to load libfoo.so: it is not there"),
        __version__="1.2.3",
    )
    monkeypatch.setattr(cuda, "onnxruntime", lambda: runtime)

    def look(**settings: int) -> Availability:
        for name, value in settings.items():
            monkeypatch.setenv(f"FAKE_CUDA_{name}", str(value))
        return CudaTarget().availability()

    look.runtime = runtime  # type: ignore[attr-defined]
    return look


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a driver."""
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-that-is-nowhere.so.1")


def test_devices_are_described(
    machine: Callable[..., Availability], capsys: pytest.CaptureFixture[str]
) -> None:
    found = machine(GPUS=2, CAPABILITY=89)
    assert found.here
    assert [device.name for device in found.devices] == [
        "Imaginary GPU (compute capability 8.9)"
    ] * 2
    assert {device.memory for device in found.devices} == {8 * GIB}
    assert capsys.readouterr() == ("", "")  # what the runtime prints about libraries is kept back


def test_free_memory_is_asked_of_one_device(
    machine: Callable[..., Availability], library: Path
) -> None:
    assert machine(FREE_MIB=1024, RETAIN=2).here  # looking at it takes nothing of it
    with pytest.raises(driver.DriverError, match="CUDA error 2"):
        driver.Driver(str(library)).free_memory(0)
    machine(RETAIN=0)
    assert driver.Driver(str(library)).free_memory(0) == GIB


@pytest.mark.parametrize(
    ("settings", "reason", "fix", "device_found"),
    [
        ({"INIT": 100}, "no CUDA-capable device is detected (CUDA error 100)", "", False),
        ({"INIT": 803}, "unknown error (CUDA error 803)", "", False),
        ({"GPUS": 0}, "none that this process may use", "", False),
        ({"VERSION": 12080}, "it knows CUDA 12.8", "version 580 or newer", True),
        ({"CAPABILITY": 61}, "compute capability 7.5 or more", "", True),
    ],
    ids=["no GPU", "broken", "none allowed", "old driver", "old GPU"],
)
def test_what_the_driver_lacks_is_told(
    machine: Callable[..., Availability],
    settings: dict[str, int],
    reason: str,
    fix: str,
    device_found: bool,
) -> None:
    found = machine(**settings)
    assert not found.here
    assert found.devices == ()
    assert reason in found.reason
    assert fix in found.fix
    assert bool(fix) == bool(found.fix)
    assert found.device_found == device_found
    assert "\n" not in found.reason + found.fix


def test_gpus_may_be_hidden(
    machine: Callable[..., Availability], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine(INIT=100).fix == "unset CUDA_VISIBLE_DEVICES, or name a GPU in it"


def test_a_newer_driver_will_do(machine: Callable[..., Availability]) -> None:
    assert machine(VERSION=14010).here


def test_the_build_for_the_cpu_is_told(
    machine: Callable[..., Availability], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.runtime.get_available_providers = lambda: ["CPUExecutionProvider"]  # type: ignore[attr-defined]
    monkeypatch.setattr(cuda.platform, "machine", lambda: "x86_64")
    found = machine()
    assert found.reason == "the installed ONNX Runtime is built for the CPU"
    # The two cannot be installed side by side.
    assert found.fix.startswith("pip uninstall --yes onnxruntime onnxruntime-gpu && pip install")
    assert found.device_found
    monkeypatch.setattr(cuda.platform, "machine", lambda: "aarch64")
    assert machine().reason == "there is no onnxruntime-gpu for aarch64"
    assert machine().fix == ""


def test_missing_libraries_are_named(
    machine: Callable[..., Availability], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (str(library), "libnowhere.so.13", "libneither.so.10")
    monkeypatch.setattr(cuda, "LIBRARIES", names)
    found = machine()
    assert found.reason.endswith("there is no libnowhere.so.13, libneither.so.10")
    assert found.fix == "pip install 'pipeline-driver[cuda]'"
    assert found.device_found


@pytest.mark.usefixtures("bare")
def test_no_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = CudaTarget().availability()
    assert found.reason == "there is no NVIDIA driver (libcuda-that-is-nowhere.so.1)"
    assert not found.device_found
    monkeypatch.setattr(sys, "platform", "linux")
    assert "version 580 or newer" in CudaTarget().availability().fix
    monkeypatch.setattr(sys, "platform", "darwin")
    assert CudaTarget().availability().fix == ""


def test_without_a_driver_nothing_is_loaded() -> None:
    script = (
        "import sys; from pipelines.common.targets.cuda import CudaTarget, driver;"
        "driver.LIBRARY = 'libnowhere.so.1'; assert not CudaTarget().availability().here;"
        "sys.exit('onnxruntime' in sys.modules or 'onnx' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.usefixtures("bare")
def test_asked_for_by_name_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run_pipeline.py", "llama3", "--target", "cuda", "--prompt", "a"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert end.value.code == 1
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("run_pipeline: error: target 'cuda' cannot run here: there is no NVIDIA")


@pytest.mark.usefixtures("bare")
def test_it_is_listed_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_pipeline.py", "targets", "--json"])
    with pytest.raises(SystemExit):
        main()
    record = json.loads(capsys.readouterr().out)
    (listed,) = (target for target in record["targets"] if target["name"] == "cuda")
    assert not listed["available"]
    assert listed["devices"] == []
    assert listed["reason"].startswith("there is no NVIDIA driver")
    assert record["auto"] != "cuda"


def test_auto_says_why_a_gpu_is_not_used(machine: Callable[..., Availability]) -> None:
    notices: list[str] = []
    progress = Progress()
    progress.notice = notices.append  # type: ignore[method-assign]
    machine(VERSION=12040)
    assert choose(Registry.discover([]), "auto", 0, progress) != "cuda"
    (notice,) = notices
    assert notice.startswith("target 'cuda' is passed over: the NVIDIA driver is too old")
