from __future__ import annotations

import io

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from pipelines.common.graph.rules import PLACEHOLDER, LoweredWeight
from pipelines.common.program.external import ALIGNMENT, Place, placed, write_tensors


def weight(name, shape, dtype="float32", *, constant=True):
    return LoweredWeight(name, name, "float32", dtype, shape, constant)


def test_tensors_start_at_pages_and_those_that_share_memory_are_written_once():
    first = np.arange(5, dtype=np.uint8)
    shared = np.arange(6, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(2, 3)
    file = io.BytesIO()
    places = write_tensors(
        iter(
            [
                ([weight("a", (5,), "uint8")], first),
                ([weight("b", (2, 3), "bfloat16"), weight("c", (6,), "bfloat16")], shared),
            ]
        ),
        file,
    )
    assert places == {"a": Place(0, 5), "b": Place(ALIGNMENT, 12), "c": Place(ALIGNMENT, 12)}
    written = file.getvalue()
    assert len(written) == ALIGNMENT + 12
    assert written[:5] == first.tobytes()
    assert written[ALIGNMENT:] == shared.tobytes()


@pytest.fixture
def product():
    """``x @ weight.T + bias``, as lowering leaves it: one weight an input, one only declared."""
    bias = TensorProto(name="bias", data_type=TensorProto.FLOAT, dims=[3])
    bias.data_location = TensorProto.EXTERNAL
    for key, value in (("location", PLACEHOLDER), ("offset", "0"), ("length", "12")):
        bias.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [
            helper.make_node(
                "FusedMatMul", ["x", "weight"], ["y"], domain="com.microsoft", transB=1
            ),
            helper.make_node("Add", ["y", "bias"], ["z"]),
        ],
        "product",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4]),
            helper.make_tensor_value_info("weight", TensorProto.FLOAT, [3, 4]),
        ],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["rows", 3])],
        [bias],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return model.SerializeToString()


def test_a_runtime_takes_the_weights_from_the_file_and_inputs_can_still_be_fed(tmp_path, product):
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((3, 4), np.float32)
    bias = generator.standard_normal(3, np.float32)
    with (tmp_path / "weights.bin").open("wb") as file:
        made = [
            ([weight("bias", (3,))], bias),
            ([weight("weight", (3, 4), constant=False)], matrix),
        ]
        places = write_tensors(iter(made), file)
    places["of the runner alone"] = Place(0, 12)
    (tmp_path / "model.onnx").write_bytes(placed(product, places, "weights.bin"))

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    assert [value.name for value in session.get_inputs()] == ["x"]
    # What can be fed is not constant, so that the runtime packs no copy of it.
    assert [value.name for value in session.get_overridable_initializers()] == ["weight"]
    x = generator.standard_normal((2, 4), np.float32)
    (result,) = session.run(None, {"x": x})
    np.testing.assert_allclose(result, x @ matrix.T + bias, rtol=1e-5, atol=1e-6)
    (result,) = session.run(None, {"x": x, "weight": 2 * matrix})
    np.testing.assert_allclose(result, 2 * x @ matrix.T + bias, rtol=1e-5, atol=1e-6)


def test_initializers_with_values_of_their_own_stay_as_they_are(product):
    model = onnx.load_from_string(product)
    model.graph.initializer.append(helper.make_tensor("one", TensorProto.INT64, [1], [1]))
    places = {"bias": Place(0, 12), "weight": Place(ALIGNMENT, 48)}
    made = onnx.load_from_string(placed(model.SerializeToString(), places, "weights.bin"))
    one = next(tensor for tensor in made.graph.initializer if tensor.name == "one")
    assert onnx.numpy_helper.to_array(one) == [1]
