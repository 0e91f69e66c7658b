"""Random weights for a family: a checkpoint that has exactly the tensors of its network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from pipelines.common.checkpoints.checkpoint import Checkpoint, metadata_of
from pipelines.common.checkpoints.random import RandomCheckpoint, RandomWeights
from pipelines.common.checkpoints.table import tensor_shapes
from pipelines.common.decoder.rope import TENSORS
from pipelines.common.errors import ParameterError, UsageError
from pipelines.common.nn.network import Network

_SEEN: Final = frozenset(("biases", "tied"))
"""What a config says of tensors, and a network may not have whatever the config says."""


class Family(Protocol):
    """What random weights are for, see `pipelines.common.models.family.NetworkFamily`."""

    def tiny(
        self, architecture: str, wanted: RandomWeights
    ) -> tuple[dict[str, Any], Mapping[str, tuple[int, ...]]]:
        """Metadata and shapes of tensors that `read` makes dimensions of."""

    def read(self, file: Checkpoint, architecture: str) -> Any:
        """The dimensions of a network."""

    def build(self, config: Any) -> Network:
        """The network of a config."""


def random_checkpoint(family: Family, architecture: str, wanted: RandomWeights) -> RandomCheckpoint:
    """A checkpoint of a tiny network, or of one of the sizes asked for.

    Args:
        family: The pipeline that is to run it.
        architecture: Which of the family's architectures it is of.
        wanted: What is asked for.

    Raises:
        ParameterError: A size is none that the family has, or not of its type; or its network has
            no such biases, or no output matrix of its own.
        ModelFileError: A size is out of range, or contradicts another.
    """
    path = Path(f"random {architecture} weights, seed {wanted.seed}")
    pairs, shapes = family.tiny(architecture, wanted)
    metadata = metadata_of(path, {k: _stored(v) for k, v in pairs.items() if v is not None})
    # The network says which tensors there are, and is made of numbers that a checkpoint has.
    config = family.read(RandomCheckpoint(path, metadata, shapes), architecture)
    tensors = tensor_shapes(family.build(config).weights())
    made = RandomCheckpoint(path, metadata, tensors, wanted.seed, wanted.encoding)
    had = family.read(made, architecture)
    for name in _SEEN & wanted.config.keys():
        if getattr(had, name) != getattr(config, name):
            raise ParameterError(name, wanted.config[name], "what this network can have")
    return made


def random_in_place_of(file: Checkpoint, wanted: RandomWeights) -> RandomCheckpoint:
    """A checkpoint with the sizes of a file, and random weights.

    Args:
        file: The file.
        wanted: What is asked for, but for sizes.

    Raises:
        UsageError: Sizes are asked for beside those of the file.
    """
    if wanted.config or wanted.metadata:
        names = ", ".join([*wanted.config, *wanted.metadata])
        raise UsageError(
            f"random weights in the place of those of {file.path} have its sizes; leave out"
            f" {names}, or leave out `model_path`"
        )
    return RandomCheckpoint.like(file, wanted, file.tensors.keys() & TENSORS)


def _stored(value: Any) -> Any:
    """A value of metadata as files have it, in which numbers are float32."""
    if isinstance(value, list | tuple):
        return type(value)(map(_stored, value))
    return float(np.float32(value)) if isinstance(value, float) else value
