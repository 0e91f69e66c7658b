"""NVIDIA's driver and CUDA's libraries without a GPU: they answer, allocate, and compute nothing.

ONNX Runtime's own CUDA provider loads on top of them. So it can be asked which nodes of a graph it
takes and whether it captures the graph, and the whole target can be run up to what comes out.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

DRIVER = r"""
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static int setting(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

static void *const context = (void *)0x7fff12345678;
static int current = 0;

int cuInit(unsigned flags) { return setting("FAKE_CUDA_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = setting("FAKE_CUDA_VERSION", 13000); return 0; }
int cuDeviceGetCount(int *count) { *count = setting("FAKE_CUDA_GPUS", 1); return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, "Imaginary GPU", length);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)8 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int capability = setting("FAKE_CUDA_CAPABILITY", 90);
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : -1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **made, int device) {
    *made = context;
    return setting("FAKE_CUDA_RETAIN", 0);
}
int cuCtxPushCurrent_v2(void *pushed) { current++; return pushed == context ? 0 : 201; }
int cuCtxPopCurrent_v2(void **popped) { current--; *popped = context; return 0; }
int cuMemGetInfo_v2(size_t *available, size_t *total) {
    *available = (size_t)setting("FAKE_CUDA_FREE_MIB", 7000) << 20;
    *total = (size_t)8 << 30;
    return current == 1 ? 0 : 201;
}
int cuGetErrorString(int error, const char **words) {
    *words = error == 100 ? "no CUDA-capable device is detected" : NULL;
    return *words ? 0 : 1;
}
int cuTensorMapEncodeTiled(void) { return 0; }
"""
"""The driver; what it says is set in the environment."""

RUNTIME = r"""
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static int made(void **object) { *object = calloc(1, 64); return 0; }
static int allocated(void **memory, size_t size) {
    *memory = aligned_alloc(256, (size + 511) / 256 * 256);
    return 0;
}

int cudaMalloc(void **memory, size_t size) {
    const char *error = getenv("FAKE_CUDA_MALLOC");
    return error ? atoi(error) : allocated(memory, size);
}
int cudaSetDevice(int device) {
    const char *error = getenv("FAKE_CUDA_SET_DEVICE");
    return error ? atoi(error) : 0;
}
int cudaMallocHost(void **memory, size_t size) { return allocated(memory, size); }
int cudaHostAlloc(void **memory, size_t size, unsigned flags) { return allocated(memory, size); }
int cudaFree(void *memory) { free(memory); return 0; }
int cudaFreeHost(void *memory) { free(memory); return 0; }
int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
    memcpy(to, from, size);
    return 0;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    memcpy(to, from, size);
    return 0;
}
int cudaMemGetInfo(size_t *available, size_t *total) {
    *available = (size_t)7 << 30;
    *total = (size_t)8 << 30;
    return 0;
}
int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return made(stream); }
int cudaEventCreate(void **event) { return made(event); }
int cudaEventCreateWithFlags(void **event, unsigned flags) { return made(event); }
int cudaStreamEndCapture(void *stream, void **graph) { return made(graph); }
int cudaGraphInstantiate(void **graph, void *from, unsigned long long flags) {
    return made(graph);
}
int cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
const char *cudaGetErrorString(int error) { return "an error"; }
const char *cudaGetErrorName(int error) { return "an error"; }

/* cudaDeviceAttr: threads of a block, shared memory, warp, processors, capability. */
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
        case 1: *value = 1024; break;
        case 8: *value = 49152; break;
        case 10: *value = 32; break;
        case 16: *value = 132; break;
        case 75: *value = 9; break;
        case 76: *value = 0; break;
        case 97: *value = 232448; break;
        default: *value = 65536;
    }
    return 0;
}

/* The beginning of CUDA 13's cudaDeviceProp; what comes after it stays 0. */
struct properties {
    char name[256], uuid[16], luid[8];
    unsigned nodes;
    size_t memory, shared;
    int registers, warp;
    size_t pitch;
    int threads, block[3], grid[3];
    size_t constants;
    int major, minor;
    size_t alignments[2];
    int processors;
};
int cudaGetDeviceProperties(void *result, int device) {
    struct properties properties = {
        "Imaginary GPU", "", "", 1, (size_t)8 << 30, 49152, 65536, 32, 2147483647, 1024,
        {1024, 1024, 64}, {2147483647, 65535, 65535}, 65536, 9, 0, {512, 32}, 132};
    memcpy(result, &properties, sizeof properties);
    return 0;
}
int cudaPointerGetAttributes(void *result, const void *memory) {
    memset(result, 0, 24);
    *(int *)result = 2;
    return 0;
}
void **__cudaRegisterFatBinary(void *binary) {
    static void *handle;
    return &handle;
}
"""
"""What of CUDA's runtime has to give something back; the rest succeeds without doing anything."""

LIBRARIES = {
    "libcuda.so.1": DRIVER,
    "libcudart.so.13": RUNTIME,
    "libcublas.so.13": "",
    "libcublasLt.so.13": "",
    "libcurand.so.10": "",
}


def missing_tools() -> str:
    """Why nothing can be compiled here; empty if it can."""
    tools = [tool for tool in ("gcc", "nm") if shutil.which(tool) is None]
    return f"there is no {' and no '.join(tools)}" if tools else ""


def missing() -> str:
    """Why the libraries cannot be made here; empty if they can."""
    built_for_gpus = _provider().exists()
    return missing_tools() or ("" if built_for_gpus else "ONNX Runtime is built for the CPU")


def build_driver(path: Path) -> None:
    """Compiles the driver alone."""
    _compile(path, DRIVER)


def build(folder: Path) -> None:
    """Compiles all libraries, each with every function that ONNX Runtime's provider asks for."""
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", _provider()], capture_output=True, text=True, check=True
    )
    wanted: dict[str, set[str]] = defaultdict(set)
    for line in listed.stdout.splitlines():
        function, _, library = line.split()[-1].partition("@")
        wanted[library.lstrip("@")].add(function)
    for library, source in LIBRARIES.items():
        others = sorted(name for name in wanted[library] if f"{name}(" not in source)
        functions = "".join(f"int {name}() {{ return 0; }}\n" for name in others)
        script = folder / f"{library}.map"
        # CUDA's libraries give their functions a version, which is their own name.
        script.write_text(f"{library} {{ global: *; }};\n")
        versions = [f"-Wl,--version-script={script}"] if library in wanted else []
        _compile(folder / library, source + functions, f"-Wl,-soname,{library}", *versions)


def _provider() -> Path:
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "capi" / "libonnxruntime_providers_cuda.so"


def _compile(path: Path, source: str, *options: str) -> None:
    code = path.with_suffix(".c")
    code.write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-w", "-o", path, code, *options]
    subprocess.run(command, check=True, capture_output=True)
