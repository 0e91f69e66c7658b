"""What the operating system says about memory and cores: how much there is, and what was used."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class PeakMemory:
    """Memory of this process, in bytes.

    Attributes:
        resident: The most it ever had in RAM, mapped files included.
        anonymous: What it has in RAM now that no file backs (no system keeps a peak of that);
            None where the system does not tell, as macOS.
    """

    resident: int
    anonymous: int | None


def peak_memory() -> PeakMemory:
    """Asks for the process's peak resident set."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform == "darwin":
        return PeakMemory(largest, None)
    # VmHWM first: a process inherits ru_maxrss from the one that started it.
    status = _kibibytes(_read(Path("/proc/self/status")))
    return PeakMemory(status.get("VmHWM", largest << 10), status.get("RssAnon"))


def total_memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def processor() -> str:
    """The processor's name, as its maker has it."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    named = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return named[1] if named else platform.machine()


def machine_cores() -> int:
    """Cores that the machine has."""
    return os.cpu_count() or 1


def runnable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy: no more than its control groups grant it time for.

    Of a grant of 2.5 cores that is 2: a third thread would make all of them wait for its turn.

    Args:
        root: Where ``proc`` and ``sys`` are looked for (Linux).
    """
    return max(1, min([runnable_cores(), *(int(quota) for quota in _quotas_of_groups(root))]))


def processor_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What this processor can do, in the words of Linux; nothing on systems that do not tell."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that can be taken without swapping, by the machine's and the container's measure.

    A control group's limit counts the page cache of files that its processes read. It is given
    back when memory runs short, so it counts as available, as the kernel's own MemAvailable does.

    Args:
        root: Where ``proc`` and ``sys`` are looked for (Linux).
    """
    if sys.platform == "darwin":
        return _available_macos()
    told = _kibibytes(_read(root / "proc/meminfo"))
    # Where the system does not tell, as without /proc, what would be too much is not known.
    machine = told.get("MemAvailable", total_memory())
    return max(0, min([machine, *_available_in_groups(root)]))


def _available_in_groups(root: Path) -> Iterator[int]:
    """What each control group around this process has left, for those with a limit."""
    for version, directory in _groups(root, "memory"):
        if version == 2:
            limit, usage = "memory.max", "memory.current"
            cache = ("inactive_file", "active_file")
        else:
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = ("total_inactive_file", "total_active_file")
        allowed, used = _read(directory / limit).strip(), _read(directory / usage).strip()
        if not allowed.isdecimal() or not used.isdecimal():
            continue
        statistics = dict(map(str.split, _read(directory / "memory.stat").splitlines()))
        yield int(allowed) - int(used) + sum(int(statistics.get(name, 0)) for name in cache)


def _quotas_of_groups(root: Path) -> Iterator[float]:
    """Cores that each control group around this process is granted time for, where it is limited.

    See `cpu.max` in https://docs.kernel.org/admin-guide/cgroup-v2.html, and for version 1
    https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    for version, directory in _groups(root, "cpu"):
        if version == 2:
            quota, _, period = _read(directory / "cpu.max").strip().partition(" ")
        else:
            quota, period = (
                _read(directory / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
            )
        # Without a limit the quota is "max", or -1.
        if quota.isdecimal() and period.isdecimal() and int(period):
            yield int(quota) / int(period)


def _groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """The folders of the control groups around this process, the innermost first.

    Args:
        root: Where ``proc`` and ``sys`` are looked for.
        controller: What they are to limit.

    Yields:
        The version of the hierarchy, and the group's folder, which need not be there.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            version, hierarchy = 2, root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            version, hierarchy = 1, root / "sys/fs/cgroup" / controller
        else:
            continue
        group = PurePosixPath(path)
        for folder in (group, *group.parents):
            # In a container the path may be the host's; then only the hierarchy's top is there.
            yield version, hierarchy / folder.relative_to("/")


def _available_macos() -> int:
    """Free pages and those that macOS takes back at once."""
    report = subprocess.run(["vm_stat"], capture_output=True, text=True, check=True).stdout
    (page_size,) = re.findall(r"page size of (\d+) bytes", report)
    pages = re.findall(r"^Pages (?:free|inactive|speculative|purgeable): +(\d+)", report, re.M)
    return int(page_size) * sum(map(int, pages))


def _kibibytes(text: str) -> dict[str, int]:
    """The fields of a /proc file that are given in kB, in bytes."""
    fields = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(value) << 10 for name, value in fields}


def _read(path: Path) -> str:
    """A file's text; nothing for one that this kernel does not have or show."""
    try:
        return path.read_text()
    except OSError:
        return ""
