"""Serves llama.cpp to `benchmarks.compare`, see `benchmarks.engine`.

It goes through llama-cpp-python's bindings of the C functions, below its own generation loop. The
interpreter that runs it needs llama-cpp-python and NumPy, nothing else.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from benchmarks.engine import Setup, Worker, read_setup, serve

_BATCH = 2048
"""Most tokens that are handed over at once; llama.cpp's own default, as is what follows."""
_MICRO_BATCH = 512
"""Most tokens that it computes together."""
_GGML_LOG_LEVEL_ERROR = 4
_KEPT: list[Any] = []
"""What llama.cpp calls for as long as the process lives."""


class LlamaCppRunner:
    """Implements `benchmarks.engine.Runner`.

    Args:
        model: A loaded model.
        setup: Its slots, lengths and threads.
        flash_attention: An entry of ``LLAMA_FLASH_ATTN_TYPE``.
    """

    def __init__(self, model: Any, setup: Setup, flash_attention: int) -> None:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = setup.slots * _multiple_of_256(setup.max_length)
        parameters.n_seq_max = setup.slots
        parameters.kv_unified = False
        parameters.n_batch = _BATCH
        parameters.n_ubatch = _MICRO_BATCH
        parameters.n_threads = parameters.n_threads_batch = setup.threads
        parameters.flash_attn_type = flash_attention
        self._context = llama_cpp.llama_init_from_model(model, parameters)
        if not self._context:
            sys.exit(f"llama.cpp cannot make a context of {parameters.n_ctx} tokens")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._lengths = np.zeros(setup.slots, np.int32)

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> None:
        """See `Runner.prefill`."""
        llama_cpp.llama_memory_seq_rm(self._memory, slot, start, -1)
        ids = np.array(tokens, np.int32)
        positions = np.arange(start, start + len(ids), dtype=np.int32)
        slots = np.full(len(ids), slot, np.int32)
        wanted = np.zeros(len(ids), np.int8)
        wanted[-1] = True
        for first in range(0, len(ids), _BATCH):
            part = slice(first, first + _BATCH)
            self._decode(ids[part], positions[part], slots[part], wanted[part])
        self._lengths[slot] = start + len(ids)

    def decode(self, tokens: Sequence[int]) -> None:
        """See `Runner.decode`."""
        count = len(tokens)
        slots = np.arange(count, dtype=np.int32)
        self._decode(np.array(tokens, np.int32), self._lengths, slots, np.ones(count, np.int8))
        self._lengths += 1

    def score(self, tokens: Sequence[int], vocabulary: int) -> NDArray[np.float32]:
        """The logits after every token of a text of its own, ``[len(tokens), vocabulary]``."""
        llama_cpp.llama_memory_seq_rm(self._memory, 0, 0, -1)
        count = len(tokens)
        self._decode(
            np.array(tokens, np.int32),
            np.arange(count, dtype=np.int32),
            np.zeros(count, np.int32),
            np.ones(count, np.int8),
        )
        logits = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(logits, (count, vocabulary)).copy()

    def _decode(
        self,
        tokens: NDArray[np.int32],
        positions: NDArray[np.int32],
        slots: NDArray[np.int32],
        wanted: NDArray[np.int8],
    ) -> None:
        count = len(tokens)
        slots_each = np.ones(count, np.int32)
        slot_addresses = slots.ctypes.data + slots.itemsize * np.arange(count, dtype=np.uintp)
        batch = llama_cpp.llama_batch(
            n_tokens=count,
            token=_pointer(tokens, ctypes.c_int32),
            pos=_pointer(positions, ctypes.c_int32),
            n_seq_id=_pointer(slots_each, ctypes.c_int32),
            seq_id=_pointer(slot_addresses, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(wanted, ctypes.c_int8),
        )
        status = llama_cpp.llama_decode(self._context, batch)
        if status:
            sys.exit(f"llama.cpp: llama_decode of {count} tokens returned {status}")
        llama_cpp.llama_synchronize(self._context)


def _pointer(array: NDArray[Any], element: Any) -> Any:
    """To an array's own memory; the caller keeps it alive."""
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(element))


def _multiple_of_256(length: int) -> int:
    """What llama.cpp rounds contexts up to; it would do so for the sum of all slots."""
    return -(-length // 256) * 256


def _errors_to_stderr(level: int, text: bytes, _: Any) -> None:
    if level == _GGML_LOG_LEVEL_ERROR:
        sys.stderr.write(text.decode(errors="replace"))


def load(path: Path) -> Any:
    """Loads a model, its file mapped."""
    log = llama_cpp.llama_log_callback(_errors_to_stderr)
    _KEPT.append(log)
    llama_cpp.llama_log_set(log, None)
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        sys.exit(f"llama.cpp cannot load {path}")
    return model


def vocabulary_size(model: Any) -> int:
    """The number of a model's tokens."""
    return int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model)))


def main() -> None:
    """Loads the model, serves it with and without flash attention."""
    setup = read_setup()
    model = load(setup.model)
    tokens = vocabulary_size(model)

    def worker(flash_attention: int) -> Worker:
        return Worker(LlamaCppRunner(model, setup, flash_attention), tokens, setup.slots)

    serve(
        {
            "flash attention": partial(worker, llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED),
            "no flash attention": partial(worker, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED),
        }
    )


if __name__ == "__main__":
    main()
