"""Elementary functions against exact arithmetic, and with fewer of the processor's instructions."""

from __future__ import annotations

import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from numpy_features import FEATURES, without

from pipelines.common.elementary import LARGEST_ANGLE, cos_sin, exp, power

POSITIONS = 131072


def rounded(values: list[mpmath.mpf]) -> NDArray[np.float32]:
    """To float32, in one step; for values that are no subnormal numbers."""
    with mpmath.workprec(24):
        return np.array([float(+value) for value in values], np.float32)


def beside(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The float32s around each of them."""
    nearest = values.astype(np.float32)
    return np.concatenate([nearest, *(np.nextafter(nearest, np.float32(to)) for to in (0, np.inf))])


def near_multiples() -> NDArray[np.float32]:
    """Where a cosine or sine is almost 0, or both are almost alike."""
    most = int(POSITIONS / np.pi * 4)
    multiples = np.random.default_rng(0).integers(1, most, 400)
    return beside(np.concatenate([np.arange(1, 40), multiples]) * (np.pi / 4))


def hard_to_round() -> NDArray[np.float32]:
    """Angles of real tables whose cosines or sines are close to the middle of two float32s."""
    exponents = np.arange(0, 128, 16, dtype=np.float32) / np.float32(128)
    angles = (np.arange(POSITIONS, dtype=np.float32)[:, None] / power(500000.0, exponents)).ravel()
    hardest = []
    for function in (np.cos, np.sin):
        value = function(angles.astype(np.float64))
        low = value.astype(np.float32)
        high = np.nextafter(low, np.where(value < low, -np.inf, np.inf).astype(np.float32))
        middle = (low.astype(np.float64) + high.astype(np.float64)) / 2
        hardest.append(np.argsort(np.abs(value - middle) / np.abs(high - low))[:300])
    return angles[np.concatenate(hardest)]


ANGLES = {
    "multiples": near_multiples,
    "roundings": hard_to_round,
    "smallest": lambda: np.float32([0, 1e-30, 2e-10, 1e-4, 0.01]),
    "largest": lambda: np.float32([2**17, 2**20 + 0.125, 2**24 - 1, LARGEST_ANGLE]),
}


@pytest.mark.parametrize("kind", ANGLES)
def test_cosines_and_sines_are_rounded_correctly(kind: str) -> None:
    angles = ANGLES[kind]()
    cos, sin = cos_sin(angles)
    with mpmath.workprec(200):
        exact = [mpmath.mpf(float(angle)) for angle in angles]
        expected_cos, expected_sin = map(mpmath.cos, exact), map(mpmath.sin, exact)
        np.testing.assert_array_equal(cos, rounded(list(expected_cos)))
        np.testing.assert_array_equal(sin, rounded(list(expected_sin)))


def test_a_table_is_what_its_angles_are() -> None:
    """In whatever blocks it is computed."""
    angles = np.linspace(0, 50, 60000, dtype=np.float32).reshape(300, 200)
    rows = [cos_sin(row) for row in angles]
    for table, parts in zip(cos_sin(angles), zip(*rows, strict=True), strict=True):
        np.testing.assert_array_equal(table, np.stack(parts))


@pytest.mark.parametrize("base", [10000.0, 500000.0, 1e6, 1.0000001])
@pytest.mark.parametrize("head_dim", [2, 64, 80, 128])
def test_powers_are_rounded_correctly(base: float, head_dim: int) -> None:
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    with mpmath.workprec(200):
        expected = [mpmath.mpf(base) ** mpmath.mpf(float(exponent)) for exponent in exponents]
    np.testing.assert_array_equal(power(base, exponents), rounded(expected))


def test_exponentials() -> None:
    x = -np.concatenate([np.linspace(0, 86.6, 50001), np.geomspace(1e-30, 1, 1000)])
    x = x.astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.all(np.abs(exp(x) / exact - 1) <= 2e-7 * (1 - x))
    np.testing.assert_array_equal(exp(np.float32([0, -87, -1e30, -np.inf])), [1, 0, 0, 0])


RESULTS = """
import hashlib
import numpy as np
from pipelines.common.elementary import cos_sin, exp, power
frequencies = 1 / power(500000.0, np.arange(0, 128, 2, dtype=np.float32) / np.float32(128))
angles = np.arange(1000, dtype=np.float32)[:, None] * frequencies
results = (frequencies, *cos_sin(angles), exp(-angles.ravel()))
print(*(hashlib.sha256(result.tobytes()).hexdigest() for result in results))
"""


def test_results_do_not_depend_on_the_processor() -> None:
    def results(disabled: list[str]) -> str:
        return subprocess.run(
            [sys.executable, "-c", RESULTS],
            env={**os.environ, **without(disabled)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    # What NumPy uses, the least that it runs on, and what is between.
    expected = results([])
    assert len(set(expected.split())) == 4
    assert {results(FEATURES), results(FEATURES[-1:])} == {expected}
