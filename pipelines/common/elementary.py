"""Elementary functions whose results are the same on every machine.

NumPy's depend on the processor's instructions and on the C library, here and there by a last bit,
which a model carries on to its logits. Those here are made of what IEEE 754 defines to the last
bit: sums, products, quotients, and rounding.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_ANGLE = 2.0**25
"""Up to which `cos_sin` takes angles, in radians."""

_HALF_PI = (float.fromhex("0x1.921fb54p+0"), float.fromhex("0x1.10b4611a62633p-30"))
"""Two parts; products of the first with as many quarter turns as are taken are exact."""

# Taylor's series: of sin(x) / x and cos(x) in powers of x^2, after the 1 that they begin with, and
# of 2^x in powers of x.
_SIN = [(-1) ** n / math.factorial(2 * n + 1) for n in range(1, 8)]
_COS = [(-1) ** n / math.factorial(2 * n) for n in range(1, 9)]
_LN_2 = 0.6931471805599453
_EXP2 = list(accumulate(range(2, 7), lambda c, n: c * _LN_2 / n, initial=_LN_2))

_LEAST_EXPONENT = -125
"""Of two, for which a float32 is still a normal number."""

_BLOCK = 1 << 13
"""Elements that are computed at a time, so that what is between stays in the cache."""


def power(base: float, exponents: NDArray[np.float32]) -> NDArray[np.float32]:
    """``base ** exponents``: computed in decimal, and rounded to float64 and float32.

    Args:
        base: Above 0.
        exponents: Shape ``[n]``.
    """
    with decimal.localcontext(decimal.Context(prec=25)):
        exact = decimal.Decimal(base)
        powers = [float(exact ** decimal.Decimal(exponent)) for exponent in exponents.tolist()]
    return np.array(powers, np.float32)


def cos_sin(angles: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines, computed in float64 and rounded once.

    Args:
        angles: In radians, from 0 to `LARGEST_ANGLE`; contiguous.
    """
    cos, sin = np.empty_like(angles), np.empty_like(angles)
    flat_angles, flat_cos, flat_sin = angles.reshape(-1), cos.reshape(-1), sin.reshape(-1)
    for start in range(0, angles.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        flat_cos[block], flat_sin[block] = _cos_sin(flat_angles[block].astype(np.float64))
    return cos, sin


def _cos_sin(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    quarter_turns = np.rint(x * (2 / math.pi))
    for part in _HALF_PI:
        x -= quarter_turns * part
    square = x * x
    sin = _series(_SIN, square)
    sin *= x
    sin += x
    cos = _series(_COS, square)
    cos += 1
    turns = quarter_turns.astype(np.int64)
    odd = (turns & 1).astype(np.bool_)
    cos, sin = np.where(odd, sin, cos), np.where(odd, cos, sin)
    cos *= 1 - (turns + 1 & 2)
    sin *= 1 - (turns & 2)
    return cos, sin


def exp(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``e ** x`` for an x of at most 0, to a part of ``2e-7 * (1 - x)``; 0 below -87.

    Args:
        x: Shape ``[n]``.
    """
    y = np.empty_like(x)
    for start in range(0, x.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        y[block] = _exp(x[block])
    return y


def _exp(x: NDArray[np.float32]) -> NDArray[np.float32]:
    exponent = x * np.float32(1 / _LN_2)
    vanishing = exponent < _LEAST_EXPONENT
    np.maximum(exponent, _LEAST_EXPONENT, out=exponent)
    whole = np.rint(exponent)
    exponent -= whole
    y = _series(_EXP2, exponent)
    y += 1
    y.view(np.int32)[...] += whole.astype(np.int32) << 23
    y[vanishing] = 0
    return y


def _series(coefficients: Sequence[float], x: NDArray[Any]) -> NDArray[Any]:
    """``c1 x + c2 x^2 + ...``, in the type of `x`."""
    *others, last = coefficients
    y = x * last
    for coefficient in reversed(others):
        y += coefficient
        y *= x
    return y
