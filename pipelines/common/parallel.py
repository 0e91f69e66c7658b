"""Work on the rows of a matrix, side by side on every core."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pipelines.common.system import cores

_CHUNK_ELEMENTS = 1 << 19
"""Elements that a piece of work covers: few enough that its temporaries stay in a core's cache."""


def for_row_chunks(rows: int, row_length: int, work: Callable[[slice], None]) -> None:
    """Calls `work` with slices that cover `rows` rows, on as many threads as there are cores.

    Threads help because NumPy lets go of the interpreter lock while it computes.

    Args:
        rows: Number of rows.
        row_length: Elements of a row; sets how many rows make a chunk.
        work: What to do with a chunk; must be safe to call from several threads at once.
    """
    step = max(1, _CHUNK_ELEMENTS // row_length)
    chunks = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
    if len(chunks) == 1:
        work(chunks[0])
        return
    # Each thread takes the next chunk when it is done with one: far cheaper than a future a chunk.
    pending = iter(chunks)

    def work_off() -> None:
        for chunk in pending:
            work(chunk)

    threads = min(cores(), len(chunks))
    with ThreadPoolExecutor(threads) as pool:
        try:
            for future in [pool.submit(work_off) for _ in range(threads)]:
                future.result()
        except BaseException:
            deque(pending, maxlen=0)  # an interrupted program does not wait for all that is left
            raise
