"""What NumPy uses of this processor beyond the least that it runs on."""

from __future__ import annotations

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

FEATURES = [feature for feature in __cpu_dispatch__ if __cpu_features__[feature]]
"""Names, the newest last, of which `without` takes some away."""


def without(features: list[str]) -> dict[str, str]:
    """The variables of the environment of a process in which NumPy does not use some features."""
    return {"NPY_DISABLE_CPU_FEATURES": " ".join(features)}
