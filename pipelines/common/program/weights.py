"""What each weight of a network runs in, and its bytes in that encoding."""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from pipelines.common import encodings
from pipelines.common.cache import Cache, digest
from pipelines.common.checkpoints import pages
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.mapped import map_file
from pipelines.common.checkpoints.table import Kind, Weight
from pipelines.common.encodings import F32, Q4_0, Q8_0, Encoding
from pipelines.common.encodings.convert import convert_rows, dequantize
from pipelines.common.encodings.requests import REQUESTS, unknown_request
from pipelines.common.errors import CacheError, ModelFileError, UsageError, quoted
from pipelines.common.parallel import for_row_chunks
from pipelines.common.program.origin import Origin
from pipelines.common.progress import Progress

EXACT: Final = ("vector", "router")
"""Kinds of weights that run in float32 whatever is asked for."""

_MOST_KEPT_BITS: Final = 5.0
"""Of block formats that q4_0 would not make smaller by more than half a bit."""

Rows: TypeAlias = tuple[int, int]
"""Some rows of a matrix: the first, and the one after the last."""

_CODE: Final = sorted(Path(encodings.__file__).parent.glob("*.py"))
"""What says how weights are converted."""

_FILE: Final = "weights.bin"


def run_encoding(requested: str, kind: Kind, stored: Encoding) -> Encoding:
    """Decides what a weight runs in.

    Args:
        requested: One of `REQUESTS`.
        kind: How the weight is used.
        stored: What the file holds.
    """
    if kind in EXACT or requested == "float32":
        return F32
    if requested == "q4_0":
        if kind in ("linear", "experts"):
            return stored if stored.coded and stored.bits <= _MOST_KEPT_BITS else Q4_0
        # Embedding and output matrix keep a higher precision, as in the files llama.cpp writes.
        return Q8_0 if stored.element else stored
    if requested == "q8_0":
        return Q8_0 if stored.element or stored.exact_in_q8_0 else stored
    return stored


class _Run(NamedTuple):
    """Rows of a tensor, or elements of a vector, and what they run in; tied weights share one."""

    tensor: str
    encoding: Encoding
    rows: Rows | None


class WeightSource:
    """Provides the weights of a table from a model file that `check_table` has passed.

    Weights that run as stored are views of the mapped file. Those that run in another quantized
    encoding are converted together, once, and kept in the cache, from where later runs map them.
    Those that run in float32 are decoded when asked for, and shared while somebody holds them.

    Attributes:
        encodings: What each weight runs in, by parameter.
        total_bytes: Bytes of all weights in those encodings, a shared tensor counted once.
        notice: One line on what is converted, for the user; None if all matrices run as stored.
    """

    def __init__(
        self,
        file: Checkpoint,
        table: Sequence[Weight],
        encoding: str,
        cache: Cache,
        *,
        warn: Callable[[str], None],
    ) -> None:
        """Decides what everything runs in; converts nothing yet.

        Args:
            file: The model file.
            table: The weights wanted of it.
            encoding: One of `REQUESTS`.
            cache: Where converted weights are kept.
            warn: Told, in one line, when converted weights cannot be cached.

        Raises:
            UsageError: `encoding` is none of `REQUESTS`.
            ModelFileError: A tensor's rows do not fit the encoding asked for.
        """
        if encoding not in REQUESTS:
            raise UsageError(f"`encoding` {unknown_request(encoding)}")
        self._file = file
        self._weights = {weight.parameter: weight for weight in table}
        self._requested = encoding
        self._cache = cache
        self._warn = warn
        self._decoded: WeakValueDictionary[tuple[_Run, Rows | None], NDArray[np.float32]] = (
            WeakValueDictionary()
        )
        self.encodings: Final[Mapping[str, Encoding]] = {
            weight.parameter: run_encoding(encoding, weight.kind, self.stored(weight.parameter))
            for weight in table
        }
        runs = dict.fromkeys(self._run(weight.parameter) for weight in table)
        for run in runs:
            self._check_rows(run)
        conversions = [
            run for run in runs if run.encoding not in (F32, file.tensors[run.tensor].encoding)
        ]
        starts = accumulate(map(self._nbytes, conversions), initial=0)
        self._conversions: Final = dict(zip(conversions, starts, strict=False))
        """Where the bytes of each start, one after another."""
        self.total_bytes: Final = sum(self._nbytes(run) for run in runs)
        matrices = dict.fromkeys(
            self._run(weight.parameter) for weight in table if weight.kind not in EXACT
        )
        self.notice: Final = _notice(
            encoding, [(file.tensors[run.tensor].encoding, run.encoding) for run in matrices]
        )

    @property
    def fingerprint(self) -> str:
        """Digest of all weights in the encodings that they run in."""
        runs = {name: [*map(str, self._run(name))] for name in self._weights}
        return digest(self._origin, {"runs": runs})

    def origin(self, progress: Progress) -> Origin:
        """See `pipelines.common.program.target.Program.origin`."""
        with progress.shown(f"reading all of {self._file.path.name}"):
            fingerprint = self._file.fingerprint(self._cache.digests)
        name = self._file.metadata.string("general.name", None)
        return Origin(str(self._file.path), fingerprint, name, self._requested)

    def stored(self, parameter: str) -> Encoding:
        """What the file holds a weight in."""
        return self._file.tensors[self._weights[parameter].tensor].encoding

    def raw(self, parameter: str, rows: Rows | None = None) -> NDArray[np.uint8]:
        """A weight's bytes in the encoding it runs in, shape ``[rows, row_bytes]``.

        Args:
            parameter: The weight.
            rows: Which of its rows, see `LoweredWeight.rows`; None for all.
        """
        run = self._run(parameter)
        if run.encoding == self.stored(parameter):
            return self._stored_rows(run, rows)
        if run.encoding == F32:
            return self._decode(run, rows).view(np.uint8)
        return _cut(self._converted_rows(run), rows)

    def float32(self, parameter: str, rows: Rows | None = None) -> NDArray[np.float32]:
        """A weight's exact values in the encoding it runs in.

        Args:
            parameter: The weight.
            rows: Which of its rows, see `LoweredWeight.rows`; None for all.

        Returns:
            Values in the shape of its `Weight`; of some rows, ``[rows, K]``.
        """
        values = self._decode(self._run(parameter), rows)
        return values if rows else values.reshape(self._weights[parameter].shape)

    def convert(self) -> None:
        """Converts what runs in another quantized encoding than it is stored in, if not done yet.

        Raises:
            OfflineError: It is not in a cache that has to hold it.
        """
        if self._conversions:
            _ = self._converted

    def release(self, parameter: str) -> None:
        """Gives back the memory that reading a weight took; it can be read again."""
        self._release(self._run(parameter))

    def identity(self, parameter: str) -> Hashable:
        """Equal for weights that are the same tensor in the same encoding."""
        return self._run(parameter)

    @property
    def _origin(self) -> str:
        """Digest of what converted weights are made from: the file, and the code that does it."""
        code = [path.read_bytes() for path in _CODE]
        return digest(self._file.fingerprint(self._cache.digests), version("gguf"), *code)

    def _run(self, parameter: str) -> _Run:
        weight = self._weights[parameter]
        return _Run(weight.tensor, self.encodings[parameter], weight.rows)

    def _row_bytes(self, run: _Run) -> int:
        return run.encoding.row_bytes(self._file.tensors[run.tensor].row_length)

    def _nbytes(self, run: _Run) -> int:
        if run.rows is None:
            return self._file.tensors[run.tensor].rows * self._row_bytes(run)
        count = run.rows[1] - run.rows[0]
        is_vector = len(self._file.tensors[run.tensor].shape) == 1
        return run.encoding.row_bytes(count) if is_vector else count * self._row_bytes(run)

    def _stored_rows(self, run: _Run, rows: Rows | None = None) -> NDArray[np.uint8]:
        """Bytes as the file has them, ``[rows, row_bytes]``; a vector is one row."""
        tensor = self._file.tensors[run.tensor]
        if run.rows is None:
            return self._file.raw(run.tensor, rows)
        first, last = run.rows
        if len(tensor.shape) > 1:
            start, end = rows or (0, last - first)
            return self._file.raw(run.tensor, (first + start, first + end))
        if tensor.encoding.block_size > 1:
            raise ModelFileError(
                f"{self._file.path}: tensor {quoted(run.tensor)} is in {tensor.encoding}, whose"
                " blocks cannot be taken apart; expected one of floats"
            )
        raw = _cut(self._file.raw(run.tensor), rows)
        return raw[:, tensor.encoding.row_bytes(first) : tensor.encoding.row_bytes(last)]

    def _check_rows(self, run: _Run) -> None:
        k = self._file.tensors[run.tensor].row_length
        if k % run.encoding.block_size:
            raise ModelFileError(
                f"{self._file.path}: tensor {quoted(run.tensor)} has rows of {k} elements, which "
                f"{run.encoding}'s blocks of {run.encoding.block_size} do not divide; use "
                "`encoding` auto or float32"
            )

    def _decode(self, run: _Run, rows: Rows | None = None) -> NDArray[np.float32]:
        """Values of a tensor ``[rows, K]``, shared while held: a tied matrix is large."""
        values = self._decoded.get((run, rows))
        if values is None:
            stored = self._file.tensors[run.tensor].encoding
            if run in self._conversions:
                values = dequantize(run.encoding, _cut(self._converted_rows(run), rows))
            else:
                values = dequantize(stored, self._stored_rows(run, rows))
            if stored != F32:
                self._release(run)
            self._decoded[run, rows] = values
        return values

    def _release(self, run: _Run) -> None:
        if run not in self._conversions:
            self._file.release(run.tensor)
        elif isinstance(self._converted, mmap.mmap):
            pages.release(self._converted, self._conversions[run], self._nbytes(run))

    def _converted_rows(self, run: _Run) -> NDArray[np.uint8]:
        """Bytes ``[rows, row_bytes]`` of a tensor that runs quantized other than as stored."""
        part = np.frombuffer(
            self._converted, np.uint8, self._nbytes(run), offset=self._conversions[run]
        )
        return part.reshape(-1, self._row_bytes(run))

    @cached_property
    def _converted(self) -> mmap.mmap | NDArray[np.uint8]:
        """The bytes of all conversions, mapped from the cache if possible."""
        size = sum(map(self._nbytes, self._conversions))
        origin = self._origin
        key = digest(
            origin,
            {"conversions": [[*map(str, run)] for run in self._conversions]},
        )
        try:
            folder = self._cache.get("weights", key) or self._store_converted(key, origin)
            with (folder / _FILE).open("rb") as file:
                return map_file(folder / _FILE, file, size)
        except (CacheError, OSError) as error:
            self._warn(str(error))
        data = np.empty(size, np.uint8)

        def store(rows: NDArray[np.uint8], offset: int) -> None:
            data[offset : offset + rows.size] = rows.reshape(-1)

        self._convert(store)
        return data

    def _store_converted(self, key: str, origin: str) -> Path:
        """Makes the cache's entry; returns its folder."""
        name = self._file.path.name
        self._cache.check_may_make(f"what {name} runs in ({self.notice})")

        def write(folder: Path) -> None:
            self._write_converted(folder)
            if self._origin != origin:
                raise ModelFileError(f"{self._file.path}: has changed while it was read")

        return self._cache.put("weights", key, write, f"{name}: {self.notice}")

    def _write_converted(self, folder: Path) -> None:
        with (folder / _FILE).open("wb") as file:

            def store(rows: NDArray[np.uint8], offset: int) -> None:
                left = rows.data.cast("B")
                while left:
                    written = os.pwrite(file.fileno(), left, offset)
                    left, offset = left[written:], offset + written

            self._convert(store)

    def _convert(self, store: Callable[[NDArray[np.uint8], int], None]) -> None:
        """Converts a few rows at a time and hands them to `store` with their byte offset."""
        for run, start in self._conversions.items():
            self._convert_tensor(run, start, store)
            self._file.release(run.tensor)

    def _convert_tensor(
        self, run: _Run, start: int, store: Callable[[NDArray[np.uint8], int], None]
    ) -> None:
        tensor = self._file.tensors[run.tensor]
        raw = self._stored_rows(run)
        row_bytes = self._row_bytes(run)

        def work(chunk: slice) -> None:
            rows = convert_rows(tensor.encoding, run.encoding, raw[chunk])
            store(rows, start + chunk.start * row_bytes)

        for_row_chunks(len(raw), tensor.row_length, work)


def _cut(raw: NDArray[np.uint8], rows: Rows | None) -> NDArray[np.uint8]:
    return raw if rows is None else raw[rows[0] : rows[1]]


def _notice(requested: str, matrices: Sequence[tuple[Encoding, Encoding]]) -> str | None:
    """Sums up what becomes of matrices, given what each is stored in and runs in."""
    changed = Counter((stored, run) for stored, run in matrices if stored != run)
    # The one request that leaves matrices in fewer bits than it names.
    kept = Counter(run for stored, run in matrices if requested == "q8_0" and stored == run != Q8_0)
    parts = [f"{_matrices(count)} {stored} to {run}" for (stored, run), count in changed.items()]
    parts += [f"{_matrices(count)} kept as {run}" for run, count in kept.items()]
    return f"quantization encoding {requested}: {', '.join(parts)}" if parts else None


def _matrices(count: int) -> str:
    return f"{count} {'matrix' if count == 1 else 'matrices'}"
