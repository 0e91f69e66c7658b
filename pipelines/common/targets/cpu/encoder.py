"""Encodes texts with a compiled graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.ort.op_errors import Makers
from pipelines.common.ort.session import Compiled, bind, input_types
from pipelines.common.program.encoder import TextEncoder
from pipelines.common.program.target import Deployment


class CpuEncoder(TextEncoder):
    """Implements `TextEncoder`.

    Args:
        compiled: The graph.
        deployment: What it was compiled for.
        makers: Who has made it.
    """

    def __init__(self, compiled: Compiled, deployment: Deployment, makers: Makers) -> None:
        interface = deployment.interface
        super().__init__(interface.vocabulary, deployment.max_length)
        self._compiled = compiled
        self._makers = makers
        self._names = input_types(compiled.session).keys()
        self._hidden_size = interface.hidden_size

    def _compute(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `TextEncoder._compute`."""
        session = self._compiled.session
        vectors = np.empty((*tokens.shape, self._hidden_size), np.float32)
        inputs: dict[str, NDArray[Any]] = {
            "tokens": tokens,
            "positions": np.arange(tokens.shape[1])[None],
            **self._compiled.inputs,
        }
        binding = session.io_binding()
        for name in self._names:
            bind(binding.bind_input, name, inputs[name])
        bind(binding.bind_output, "vectors", vectors)
        with self._makers.explain_run():
            session.run_with_iobinding(binding)
        self._makers.check_numbers(vectors.reshape(-1, self._hidden_size))
        return vectors
