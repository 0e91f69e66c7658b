"""Memory and cores that can be had, with and without control groups around the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.common import system
from pipelines.common.system import available_memory, cores, peak_memory, total_memory

GIB = 1 << 30
NO_LIMIT_V1 = 9223372036854771712

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and /sys")


def put(root: Path, files: dict[str, str | int]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def machine(root: Path, available: int) -> Path:
    return put(root, {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:  {available >> 10} kB"})


def group_v2(limit: int | str, used: int, inactive: int = 0, active: int = 0) -> dict[str, str]:
    return {
        "memory.max": str(limit),
        "memory.current": str(used),
        "memory.stat": f"anon 5\nfile 7\ninactive_file {inactive}\nactive_file {active}",
    }


def group_v1(limit: int, used: int, inactive: int = 0, active: int = 0) -> dict[str, str]:
    return {
        "memory.limit_in_bytes": str(limit),
        "memory.usage_in_bytes": str(used),
        "memory.stat": f"inactive_file 1\ntotal_inactive_file {inactive}\n"
        f"total_active_file {active}",
    }


def under(folder: str, files: dict[str, str]) -> dict[str, str | int]:
    return {f"sys/fs/cgroup{folder}/{name}": content for name, content in files.items()}


@linux
def test_without_groups_it_is_the_machines(tmp_path: Path) -> None:
    assert available_memory(machine(tmp_path, 8 * GIB)) == 8 * GIB


@linux
@pytest.mark.parametrize("files", [{}, {"proc/meminfo": "MemTotal: 99 kB"}])
def test_where_the_system_does_not_tell_it_is_all_there_is(
    tmp_path: Path, files: dict[str, str | int]
) -> None:
    assert available_memory(put(tmp_path, files)) == total_memory()


@linux
@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (group_v2("max", 6 * GIB), 8),
        (group_v2(4 * GIB, 1 * GIB), 3),
        (group_v2(4 * GIB, 3 * GIB, inactive=GIB, active=GIB), 3),
        (group_v2(100 * GIB, 1 * GIB), 8),
        (group_v2(4 * GIB, 5 * GIB), 0),
    ],
)
def test_a_group_of_version_2(tmp_path: Path, group: dict[str, str], expected: int) -> None:
    root = machine(tmp_path, 8 * GIB)
    put(root, {"proc/self/cgroup": "0::/app", **under("/app", group)})
    assert available_memory(root) == expected * GIB


@linux
def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    root = machine(tmp_path, 8 * GIB)
    put(
        root,
        {
            "proc/self/cgroup": "0::/slice/pod/app",
            **under("/slice", group_v2(6 * GIB, GIB)),
            **under("/slice/pod", group_v2(4 * GIB, 2 * GIB)),
            **under("/slice/pod/app", group_v2("max", GIB)),
        },
    )
    assert available_memory(root) == 2 * GIB


@linux
def test_a_container_that_sees_its_group_as_the_top(tmp_path: Path) -> None:
    root = machine(tmp_path, 8 * GIB)
    put(root, {"proc/self/cgroup": "0::/", **under("", group_v2(2 * GIB, GIB))})
    assert available_memory(root) == GIB


@linux
def test_a_container_that_is_told_the_hosts_path(tmp_path: Path) -> None:
    root = machine(tmp_path, 8 * GIB)
    put(
        root,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/docker/ab",
            **under("/memory", group_v1(3 * GIB, 2 * GIB, inactive=GIB // 2)),
        },
    )
    assert available_memory(root) == GIB * 3 // 2


@linux
def test_groups_of_version_1(tmp_path: Path) -> None:
    root = machine(tmp_path, 8 * GIB)
    put(
        root,
        {
            "proc/self/cgroup": "11:cpuset:/x\n4:memory:/pod/app\n1:name=systemd:/x",
            **under("/memory", group_v1(NO_LIMIT_V1, 7 * GIB)),
            **under("/memory/pod", group_v1(5 * GIB, 3 * GIB, active=GIB)),
            **under("/memory/pod/app", group_v1(NO_LIMIT_V1, GIB)),
        },
    )
    assert available_memory(root) == 3 * GIB


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "runnable_cores", lambda: 8)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 8),
        ("100000 100000", 1),
        ("250000 100000", 2),
        ("20000 100000", 1),
        ("400000 100000", 4),
        ("30000 10000", 3),
        ("6400000 100000", 8),
        ("", 8),
    ],
)
def test_a_quota_of_version_2(tmp_path: Path, quota: str, expected: int) -> None:
    files = {"proc/self/cgroup": "0::/app", **under("/app", {"cpu.max": quota})}
    assert cores(put(tmp_path, files)) == expected


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [(-1, 100_000, 8), (150_000, 50_000, 3), (100_000, 100_000, 1), (100_000, 0, 8)],
)
def test_a_quota_of_version_1(tmp_path: Path, quota: int, period: int, expected: int) -> None:
    group = {"cpu.cfs_quota_us": str(quota), "cpu.cfs_period_us": str(period)}
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "3:memory:/pod\n2:cpu,cpuacct:/pod\n0::/",
            **under("/cpu/pod", group),
        },
    )
    assert cores(root) == expected


@pytest.mark.usefixtures("eight_cores")
def test_the_tightest_of_nested_quotas_counts(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slice/pod/app",
            **under("/slice", {"cpu.max": "500000 100000"}),
            **under("/slice/pod", {"cpu.max": "300000 100000"}),
            **under("/slice/pod/app", {"cpu.max": "max 100000"}),
        },
    )
    assert cores(root) == 3


@pytest.mark.usefixtures("eight_cores")
def test_a_quota_whose_group_is_the_containers_top(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/docker/ab", **under("", {"cpu.max": "200000 100000"})}
    assert cores(put(tmp_path, files)) == 2


def test_without_a_quota_all_cores_are_busy(tmp_path: Path) -> None:
    assert cores(tmp_path) == system.runnable_cores() >= 1


def test_this_machine_has_memory() -> None:
    assert available_memory() > 0


def test_macos_counts_pages_it_takes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    report = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                               1000.\n"
        "Pages active:                            90000.\n"
        "Pages inactive:                            200.\n"
        "Pages speculative:                          30.\n"
        "Pages wired down:                        50000.\n"
        "Pages purgeable:                             4.\n"
    )
    monkeypatch.setattr(system.sys, "platform", "darwin")
    monkeypatch.setattr(
        subprocess, "run", lambda *args, **_: subprocess.CompletedProcess(args, 0, report)
    )
    assert available_memory() == 1234 * 16384


@linux
def test_peak_memory_is_this_process_own_and_outlives_the_memory() -> None:
    code = (
        "import mmap\n"
        "from pipelines.common.system import peak_memory\n"
        "before = peak_memory()\n"
        "block = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE)\n"
        "block.write(bytes(64 << 20))\n"
        "during = peak_memory()\n"
        "block.close()\n"
        "after = peak_memory()\n"
        "for peak in before, during, after:\n"
        "    print(peak.resident >> 20, peak.anonymous >> 20)\n"
    )
    ballast = b"x" * (128 << 20)
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert peak_memory().resident > len(ballast)
    (resident, anonymous), during, after = (
        tuple(map(int, line.split())) for line in output.splitlines()
    )
    assert resident < 64
    # The kernel counts pages in batches: a few may be missing.
    assert during[0] > resident + 60
    assert during[1] > anonymous + 60
    assert after[0] > resident + 60
    assert after[1] < anonymous + 4
