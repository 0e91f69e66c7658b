"""How far logits are from others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.common.pipeline_check.outcome import require


def near(
    logits: NDArray[np.float32],
    expected: NDArray[np.float32],
    allowed: float,
    *,
    of_most: bool = False,
) -> str:
    """Makes sure that logits are near enough to others.

    Args:
        logits: What was computed.
        expected: What should have been.
        allowed: The largest `relative_error` that will do.
        of_most: Whether half of the rows may be farther away.

    Returns:
        How near they are.

    Raises:
        CheckFailedError: They are not near enough, or of another shape.
    """
    require(
        logits.shape == expected.shape,
        f"the logits are {[*logits.shape]}, expected {[*expected.shape]}",
    )
    error = relative_error(logits, expected)
    if of_most and np.isfinite(error):
        errors = np.abs(logits - expected).max(-1)
        error *= float(np.median(errors) / max(errors.max(), np.finfo(np.float32).tiny))
    said = f"{'usual' if of_most else 'largest'} error {error:.1e}, {allowed:.0e} allowed"
    require(error <= allowed, said)
    return said


def relative_error(logits: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference, relative to the largest expected value; infinite for what is no number.

    Args:
        logits: What was computed.
        expected: What should have been, of the same shape.
    """
    largest = np.abs(expected).max(initial=np.finfo(np.float32).tiny)
    return float(np.nan_to_num(np.abs(logits - expected).max(initial=0) / largest, nan=np.inf))
