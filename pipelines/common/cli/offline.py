"""Runs that make nothing: the command that makes what they lack."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.common.cli.random_weights import random_words
from pipelines.common.errors import OfflineError

if TYPE_CHECKING:
    from pipelines.common.text_generation import ModelOptions


@contextmanager
def told_to_store(pipeline: str, options: ModelOptions) -> Iterator[None]:
    """Wherein what the cache does not hold is told with the command that stores it.

    Args:
        pipeline: Name of the pipeline.
        options: What it is run with.

    Raises:
        OfflineError: With the command.
    """
    try:
        yield
    except OfflineError as error:
        raise OfflineError(f"{error}; store it first: {_warm_cache(pipeline, options)}") from error


def _warm_cache(pipeline: str, options: ModelOptions) -> str:
    """The command that stores everything that a run with these options needs."""
    words: list[str | Path] = ["run-pipeline", "warm-cache", pipeline, "--target", options.target]
    if options.model_path is not None:
        words += ["--model-path", options.model_path]
    if options.tokenizer_path is not None:
        words += ["--tokenizer-path", options.tokenizer_path]
    words += random_words(options.random)
    words += ["--quantization-encoding", options.encoding]
    for path in options.custom_ops:
        words += ["--custom-ops-path", path]
    words += [] if options.native_ops else ["--no-native-ops"]
    words += ["--pack-cache"] if options.pack_cache else []
    return shlex.join(map(str, words))
