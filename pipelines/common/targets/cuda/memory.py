"""A device's memory: tensors in it, and copies that do not leave it.

Source of what is called here: https://onnxruntime.ai/docs/api/python/api_summary.html, and for
CUDA graphs https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.ort import onnxruntime
from pipelines.common.ort.emit import BFLOAT16
from pipelines.common.ort.function import SessionFunction
from pipelines.common.ort.packages import makers
from pipelines.common.ort.session import CPU, Provider, input_types, make_session
from pipelines.common.program.target import Deployment
from pipelines.common.program.tensors import Made

if TYPE_CHECKING:
    from onnx import GraphProto
    from onnxruntime import InferenceSession, IOBinding, OrtValue


@dataclass(frozen=True)
class Memory:
    """Where tensors are.

    Attributes:
        device_type: What ONNX Runtime calls the kind of device: ``cuda``, or ``cpu`` to run without
            one.
        device_id: Which of these devices.
    """

    device_type: str
    device_id: int

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> OrtValue:
        """A tensor whose values are whatever stood there."""
        return onnxruntime().OrtValue.ortvalue_from_shape_and_type(
            list(shape), _known_type(dtype), self.device_type, self.device_id
        )

    def holding(self, array: NDArray[Any]) -> OrtValue:
        """A tensor with the values of an array."""
        value = self.allocate(array.shape, array.dtype)
        write(value, array)
        return value

    def bind(
        self, bind_value: Any, name: str, address: int, dtype: DTypeLike, shape: Sequence[int]
    ) -> None:
        """Binds memory of the device as an input or output; the caller keeps it alive.

        Args:
            bind_value: `bind_input` or `bind_output` of an IOBinding.
            name: Name of the graph's input or output.
            address: Where the tensor begins.
            dtype: Its element type.
            shape: Its shape.
        """
        bind_value(name, self.device_type, self.device_id, _known_type(dtype), list(shape), address)

    def session(self, graph: GraphProto, *, graph_capture: bool = False) -> InferenceSession:
        """A session of a small graph without weights, on this device.

        Args:
            graph: The graph.
            graph_capture: Whether its runs can be captured, see `run`.
        """
        from onnx import helper

        # The CUDA provider does not have the latest version of every operator.
        opsets = [helper.make_opsetid("", 18)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        provider = CPU
        if self.device_type == "cuda":
            options = {
                "device_id": str(self.device_id),
                "enable_cuda_graph": str(int(graph_capture)),
            }
            provider = Provider("CUDAExecutionProvider", options)
        return make_session(LoweredGraph(model.SerializeToString(), ()), {}, provider)


class Copies:
    """Copies runs of bytes within a device's memory, and out of it.

    The runtime has no way to do that with a part of a tensor but running a graph.

    Args:
        memory: The device's.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._session = memory.session(_copying())

    def within(self, source: int, target: int, nbytes: int) -> None:
        """Copies from one address of the device to another."""
        binding = self._session.io_binding()
        self._memory.bind(binding.bind_input, "source", source, np.uint8, (nbytes,))
        self._memory.bind(binding.bind_output, "target", target, np.uint8, (nbytes,))
        run(self._session, binding)

    def out(self, source: int, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """What is at an address of the device, as an array of the host."""
        array = np.empty(tuple(shape), dtype)
        binding = self._session.io_binding()
        self._memory.bind(binding.bind_input, "source", source, np.uint8, (array.nbytes,))
        binding.bind_output("target", "cpu", 0, np.uint8, [array.nbytes], array.ctypes.data)
        run(self._session, binding)
        return array


def write(value: OrtValue, array: NDArray[Any]) -> None:
    """Puts an array's values into a tensor.

    Args:
        value: The tensor.
        array: Of its element type and as many elements: the runtime copies bytes, and checks
            neither type nor shape. It can be read-only.
    """
    assert value.tensor_size_in_bytes() == array.nbytes
    value.update_inplace(array.view(np.uint16) if array.dtype.name == "bfloat16" else array)


def upload(made: Iterator[Made], memory: Memory) -> dict[str, OrtValue]:
    """Puts a graph's tensors into a device's memory, one after the other.

    Args:
        made: The tensors, as `pipelines.common.program.tensors.make_tensors` makes them.
        memory: Where they go.

    Returns:
        Them by name; tensors that share their memory there are one here, in the shape of the
        constant among them if there is one. Inputs are bound in whatever shape they need.
    """
    values = {}
    for weights, array in made:
        shape = next((weight.shape for weight in weights if weight.constant), weights[0].shape)
        value = memory.holding(array.reshape(shape))
        values.update({weight.name: value for weight in weights})
    return values


def function(
    session: InferenceSession,
    deployment: Deployment,
    graph: LoweredGraph,
    tensors: Mapping[str, OrtValue],
    memory: Memory,
) -> SessionFunction:
    """A network that keeps nothing, over weights in a device's memory.

    Args:
        session: The compiled graph.
        deployment: What it was compiled for.
        graph: The graph.
        tensors: Its weights that are no constants, by name.
        memory: The device's, where they are.
    """
    types = input_types(session)
    shapes = {weight.name: weight.shape for weight in graph.weights}  # tied ones are one tensor

    def bind_fixed(binding: IOBinding) -> None:
        for name, value in tensors.items():
            address = value.data_ptr()
            memory.bind(binding.bind_input, name, address, types[name], shapes[name])

    return SessionFunction(session, deployment.interface, bind_fixed, makers(deployment, graph))


def run(session: InferenceSession, binding: IOBinding, graph: int | None = None) -> None:
    """Runs a session on what is bound, and waits for its end.

    Args:
        session: The session.
        binding: Its inputs and outputs.
        graph: Which of the session's captured graphs this is, counted from 1. The first run
            captures it, for which it is run several times; later ones replay it, with what the
            same addresses hold then. None for a run that is not captured.
    """
    # What was written to inputs went by another stream than the session's.
    binding.synchronize_inputs()
    options = onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph or -1))
    session.run_with_iobinding(binding, options)


def _known_type(dtype: DTypeLike) -> Any:
    """An element type as ONNX Runtime takes it: NumPy's, or a number for what NumPy has not."""
    dtype = np.dtype(dtype)
    return BFLOAT16 if dtype.name == "bfloat16" else dtype.type


def _copying() -> GraphProto:
    from onnx import TensorProto, helper

    source, target = (
        helper.make_tensor_value_info(name, TensorProto.UINT8, ["bytes"])
        for name in ("source", "target")
    )
    node = helper.make_node("Identity", ["source"], ["target"])
    return helper.make_graph([node], "copy", [source], [target])
