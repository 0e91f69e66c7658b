"""OpenAI's embeddings: a request for vectors of texts, and the response to it.

https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.requests.values import RequestError, shown

_FORMATS: Final = ("float", "base64")
KNOWN: Final = frozenset({"input", "model", "encoding_format", "dimensions", "user"})
"""Fields of a request."""


@dataclass(frozen=True)
class EmbeddingRequest:
    """Texts whose vectors are asked for.

    Attributes:
        texts: The texts, at least one, none of them empty.
        encoding_format: How vectors are written: ``float`` as numbers, ``base64`` as the bytes of
            float32, little-endian.
    """

    texts: tuple[str, ...]
    encoding_format: str = "float"


@dataclass(frozen=True)
class Embedding:
    """What came of a request.

    Attributes:
        vectors: One for each text, ``[texts, elements]``.
        tokens: Tokens of all texts.
    """

    vectors: NDArray[np.float32]
    tokens: int


def read_embedding_request(fields: Mapping[str, Any]) -> EmbeddingRequest:
    """The request that the fields of an object describe.

    Raises:
        RequestError: There is no text, or one is empty or no text, or something is asked for that
            is not offered.
    """
    given = fields.get("input")
    texts = [*given] if isinstance(given, list) else [given]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise RequestError(
            f"input is {shown(given)}; expected a text, or a list of texts, none of them empty"
        )
    form = fields.get("encoding_format") or _FORMATS[0]
    if form not in _FORMATS:
        raise RequestError(
            f"encoding_format is {shown(form)}; expected one of {', '.join(_FORMATS)}"
        )
    if fields.get("dimensions") is not None:
        raise RequestError(
            f"dimensions is {shown(fields['dimensions'])}, which is not offered; expected null"
        )
    return EmbeddingRequest(tuple(map(str, texts)), form)


def embedding_response(model: Any, request: EmbeddingRequest, made: Embedding) -> dict[str, Any]:
    """The body of the response.

    Args:
        model: What the request calls the model, which has no effect.
        request: The request.
        made: What came of it.
    """
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _written(vector, request.encoding_format),
            }
            for index, vector in enumerate(made.vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": made.tokens, "total_tokens": made.tokens},
    }


def _written(vector: NDArray[np.float32], form: str) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers
