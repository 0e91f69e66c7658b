"""The block formats that weights are stored and run in.

The layouts are those of ggml (``ggml-common.h``), which GGUF files store. Each format has a module
of its own, and its name in `ENCODINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.common.encodings.encoding import Encoding
from pipelines.common.encodings.floats import BF16, F16, F32
from pipelines.common.encodings.iq4_nl import IQ4_NL
from pipelines.common.encodings.iq4_xs import IQ4_XS
from pipelines.common.encodings.mxfp4 import MXFP4
from pipelines.common.encodings.q2_k import Q2_K
from pipelines.common.encodings.q3_k import Q3_K
from pipelines.common.encodings.q4_0 import Q4_0
from pipelines.common.encodings.q4_1 import Q4_1
from pipelines.common.encodings.q4_k import Q4_K
from pipelines.common.encodings.q5_0 import Q5_0
from pipelines.common.encodings.q5_1 import Q5_1
from pipelines.common.encodings.q5_k import Q5_K
from pipelines.common.encodings.q6_k import Q6_K
from pipelines.common.encodings.q8_0 import Q8_0

__all__ = [
    "BF16",
    "BLOCKS",
    "ENCODINGS",
    "F16",
    "F32",
    "FLOATS",
    "GGML_TYPES",
    "IQ4_NL",
    "IQ4_XS",
    "MXFP4",
    "Q2_K",
    "Q3_K",
    "Q4_0",
    "Q4_1",
    "Q4_K",
    "Q5_0",
    "Q5_1",
    "Q5_K",
    "Q6_K",
    "Q8_0",
    "WITHOUT_OFFSETS",
    "WITH_OFFSETS",
    "Encoding",
    "advice",
]

ENCODINGS: Mapping[str, Encoding] = {
    encoding.name: encoding
    for encoding in (
        *(F32, F16, BF16),
        *(Q8_0, Q5_0, Q5_1, Q4_0, Q4_1),
        *(Q6_K, Q5_K, Q4_K, Q3_K, Q2_K),
        *(IQ4_NL, IQ4_XS, MXFP4),
    )
}
"""The encodings that can be run, by name."""

FLOATS = tuple(name for name, encoding in ENCODINGS.items() if encoding.element)
"""Names of those that are single numbers."""

BLOCKS = tuple(name for name, encoding in ENCODINGS.items() if encoding.coded)
"""Names of those that are codes and scales."""

WITH_OFFSETS = tuple(
    name for name, encoding in ENCODINGS.items() if encoding.coded and encoding.coded.offsets
)
"""Names of those among `BLOCKS` that have offsets as well."""

WITHOUT_OFFSETS = tuple(name for name in BLOCKS if name not in WITH_OFFSETS)
"""Names of the others."""

GGML_TYPES: Mapping[int, Encoding] = {
    encoding.ggml_type: encoding
    for encoding in (
        *ENCODINGS.values(),
        # Known by size only, so that files holding them can be checked and listed.
        Encoding("q8_1", 9, 32, 36),
        Encoding("q8_k", 15, 256, 292),
        Encoding("iq2_xxs", 16, 256, 66),
        Encoding("iq2_xs", 17, 256, 74),
        Encoding("iq3_xxs", 18, 256, 98),
        Encoding("iq1_s", 19, 256, 50),
        Encoding("iq3_s", 21, 256, 110),
        Encoding("iq2_s", 22, 256, 82),
        Encoding("i8", 24, 1, 1),
        Encoding("i16", 25, 1, 2),
        Encoding("i32", 26, 1, 4),
        Encoding("i64", 27, 1, 8),
        Encoding("f64", 28, 1, 8),
        Encoding("iq1_m", 29, 256, 56),
        Encoding("tq1_0", 34, 256, 54),
        Encoding("tq2_0", 35, 256, 66),
        Encoding("nvfp4", 40, 64, 36),
        Encoding("q1_0", 41, 128, 18),
        Encoding("q2_0", 42, 64, 18),
        # ggml has these numbers no longer. The last six were rows of blocks, interleaved.
        Encoding("q4_2", 4, 16, 10, successor="q4_0"),
        Encoding("q4_3", 5, 16, 12, successor="q4_1"),
        Encoding("q4_0_4_4", 31, 32, 18, successor="q4_0"),
        Encoding("q4_0_4_8", 32, 32, 18, successor="q4_0"),
        Encoding("q4_0_8_8", 33, 32, 18, successor="q4_0"),
        Encoding("iq4_nl_4_4", 36, 32, 18, successor="iq4_nl"),
        Encoding("iq4_nl_4_8", 37, 32, 18, successor="iq4_nl"),
        Encoding("iq4_nl_8_8", 38, 32, 18, successor="iq4_nl"),
    )
}
"""Every encoding a GGUF file may name, by ggml's number."""


def advice(encoding: Encoding) -> str:
    """Why tensors cannot be run, and what to do, for an encoding that is not `supported`."""
    reason = "cannot be run"
    if encoding.successor:
        reason = f"was removed from ggml, {encoding.successor} took its place"
    runs = [encoding.successor] if encoding.successor in ENCODINGS else [*ENCODINGS]
    *most, last = map(str.upper, runs)
    choice = f"{', '.join(most)} or {last}" if most else last
    return f"{encoding} {reason}; use a file of the model in {choice}"
