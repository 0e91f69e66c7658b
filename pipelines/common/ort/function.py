"""Runs a compiled graph of a network that keeps nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.common.nn.interface import Interface
from pipelines.common.ort.op_errors import NOBODY, Makers
from pipelines.common.ort.session import bind, input_types
from pipelines.common.program.function import Arrays

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class SessionFunction:
    """Implements `pipelines.common.program.function.Function`.

    Args:
        session: The compiled graph.
        interface: The network's.
        bind_fixed: Binds weights and whatever else is the same in each call, to an IOBinding.
        makers: Who has made the graph.
    """

    def __init__(
        self,
        session: InferenceSession,
        interface: Interface,
        bind_fixed: Callable[[Any], None] | None = None,
        makers: Makers = NOBODY,
    ) -> None:
        makers.check_interface(session, interface)
        self._session = session
        self._gives = tuple(interface.gives)
        self._bind_fixed = bind_fixed
        self._makers = makers
        self._types = input_types(session)

    def __call__(self, arrays: Arrays) -> Arrays:
        """See `Function`; arrays may also be inputs that rules of the target have made.

        Raises:
            PipelineError: See `Makers.explain_run`.
        """
        binding = self._session.io_binding()
        if self._bind_fixed is not None:
            self._bind_fixed(binding)
        given = {
            name: np.ascontiguousarray(array, self._types[name])
            for name, array in arrays.items()
            if name in self._types  # a rule may have made one superfluous
        }
        for name, array in given.items():
            bind(binding.bind_input, name, array)
        for name in self._gives:
            binding.bind_output(name, "cpu")
        with self._makers.explain_run():
            self._session.run_with_iobinding(binding)
        made = dict(zip(self._gives, binding.copy_outputs_to_cpu(), strict=True))
        for array in made.values():
            self._makers.check_numbers(array)
        return made
