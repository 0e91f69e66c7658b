"""What a family says for folders of Hugging Face's; light, as it is read at every start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

Settings: TypeAlias = dict[str, Any]
"""What ``config.json`` says, without what says nothing (null)."""


@dataclass(frozen=True)
class HuggingFaceModel:
    """How ``config.json`` and the tensors of one `model_type` say what a family's GGUF files do.

    The sizes, rotary embeddings, windows and experts that models have in common are known without
    it, and so are the names of tensors, from the `gguf` package.

    Attributes:
        model_type: What ``config.json`` calls the model.
        architecture: What GGUF files call it.
        keys: Which metadata key, without the architecture, further keys of ``config.json`` are.
        expected: Keys that change results with any other than these values.
        defaults: What `transformers` takes where a key is missing, if GGUF takes something else.
        numbers: Takes out of ``config.json`` what it says in a way of its own; returns that under
            metadata keys, without the architecture. It raises `ValueError` for what cannot be said.
        norm_offset: What GGUF files have added to the weights of norms: 1 for norms of ``1 + w``.
        interleaved: Whether rotations pair neighbouring rows of a head, and not halves.
        stacked_experts: Whether the matrices of a layer's experts are in one tensor each, as those
            of gpt-oss: turned, with gates and what they multiply in turns; or as codes of MXFP4.
        ignored: Beginnings of the names of tensors that results do not depend on.
        prefix: What the names of tensors may begin with, beside what they do in other models.
        part: The object of ``config.json`` that is the config; empty where that is the whole.
    """

    format: ClassVar[str] = "huggingface"

    model_type: str
    architecture: str
    keys: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    numbers: Callable[[Settings], Mapping[str, Any]] | None = None
    norm_offset: float = 0.0
    interleaved: bool = False
    stacked_experts: bool = False
    ignored: tuple[str, ...] = ()
    prefix: str = ""
    part: str = ""
