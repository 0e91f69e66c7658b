"""What NVIDIA's driver tells of the GPUs here, asked before anything else of CUDA is loaded.

Source: https://docs.nvidia.com/cuda/cuda-driver-api/
"""

from __future__ import annotations

import ctypes
from ctypes import byref
from dataclasses import dataclass
from typing import Any

LIBRARY = "libcuda.so.1"
"""The driver's library, as it comes with the driver itself."""

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""`CUdevice_attribute` numbers."""


class DriverError(Exception):
    """There is no GPU, or the driver refuses a call; the message has its words and `CUresult`."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that the driver lets this process use.

    Attributes:
        name: What its maker calls it.
        capability: Its compute capability, major and minor.
        memory: Bytes of its memory.
    """

    name: str
    capability: tuple[int, int]
    memory: int


class Driver:
    """The driver's library.

    Args:
        path: The library, by path or as the system's loader finds it.

    Raises:
        OSError: It cannot be loaded.
    """

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)

    def cuda_version(self) -> tuple[int, int]:
        """The newest version of CUDA that it supports, major and minor.

        Raises:
            DriverError: It does not tell.
        """
        version = self._integer("cuDriverGetVersion")
        return version // 1000, version % 1000 // 10

    def gpus(self) -> list[Gpu]:
        """The GPUs, in the order of their numbers.

        Raises:
            DriverError: There are none, or the driver does not work.
        """
        self._call("cuInit", 0)
        count = self._integer("cuDeviceGetCount")
        if not count:
            raise DriverError("none that this process may use")
        return [self._gpu(number) for number in range(count)]

    def _gpu(self, number: int) -> Gpu:
        device = self._integer("cuDeviceGet", number)
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), device)
        memory = ctypes.c_size_t()
        self._call("cuDeviceTotalMem_v2", byref(memory), device)
        major, minor = (
            self._integer("cuDeviceGetAttribute", attribute, device)
            for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR)
        )
        return Gpu(name.value.decode(), (major, minor), memory.value)

    def free_memory(self, number: int) -> int:
        """Bytes of a GPU's memory that nobody uses, beside what a context takes.

        The context stays for whatever runs on the GPU next: to make one takes tenths of a second.

        Raises:
            DriverError: It lets nobody in: it is full, or kept by a process that shares it with no
                other.
        """
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", byref(context), self._integer("cuDeviceGet", number))
        self._call("cuCtxPushCurrent_v2", context)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        self._call("cuCtxPopCurrent_v2", byref(context))
        return free.value

    def _integer(self, function: str, *arguments: Any) -> int:
        """What a function gives whose first argument takes an int."""
        result = ctypes.c_int()
        self._call(function, byref(result), *arguments)
        return result.value

    def _call(self, function: str, *arguments: Any) -> None:
        result = getattr(self._library, function)(*arguments)
        if result:
            raise DriverError(f"{self._words(result)} (CUDA error {result})")

    def _words(self, result: int) -> str:
        words = ctypes.c_char_p()
        self._library.cuGetErrorString(result, byref(words))
        return words.value.decode() if words.value else "unknown error"
