"""Single numbers: IEEE 754 binary32 and binary16, and bf16, the upper half of a binary32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import Encoding, encode_by_gguf

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Bytes, Floats


def _decode_ieee(encoding: Encoding, raw: Bytes, values: Floats) -> None:
    values[...] = raw.view(encoding.element)


def _decode_bf16(_: Encoding, raw: Bytes, values: Floats) -> None:
    bits = values.view("uint32")
    bits[...] = raw.view("uint16")
    bits <<= 16


F32 = Encoding("f32", 0, 1, 4, _decode_ieee, encode_by_gguf, element="float32")
F16 = Encoding("f16", 1, 1, 2, _decode_ieee, encode_by_gguf, element="float16")
BF16 = Encoding("bf16", 30, 1, 2, _decode_bf16, encode_by_gguf, element="bfloat16")
