"""No word of a folder makes the driver load code, or read what lies elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from libraries import SUFFIX, compile_library
from notices import Notices

from pipelines.common.errors import ModelFileError, OpPackageError
from pipelines.common.export.manifest import describe_file
from pipelines.common.export.packages import package_digest
from pipelines.common.export.write import export
from pipelines.common.ort import onnxruntime

CODE = """
from pathlib import Path
Path({mark!r}).touch()
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Rule
from pipelines.common.program.package import OpPackage
RULE = Rule("Sigmoid", patterns.silu, lambda op, x: op.Mul(x, op.Sigmoid(x)))
PACKAGE = OpPackage("Evil.", {{"cpu": [RULE]}})
"""

LIBRARY = """
#include <cstdio>
__attribute__((constructor)) static void leave_a_mark() {{
  std::fclose(std::fopen("{mark}", "w"));
}}
extern "C" void* RegisterCustomOps(void*, const void*) {{ return nullptr; }}
"""


@pytest.fixture
def mark(tmp_path):
    """A file that is there once any of the code below has run."""
    return tmp_path / "executed"


@pytest.fixture(params=["module", "folder", "library"])
def package(request, tmp_path, mark):
    """An op package that works, and shows that it was loaded."""
    code = CODE.format(mark=str(mark))
    if request.param == "library":
        path = tmp_path / f"evil{SUFFIX}"
        return compile_library(path, LIBRARY.format(mark=mark))
    if request.param == "module":
        path = tmp_path / "evil.py"
        path.write_text(code)
        return path
    path = tmp_path / "evil"
    path.mkdir()
    (path / "op_package.toml").write_text('module = "rules.py"')
    (path / "rules.py").write_text(code)
    return path


def names_of(path: Path, folder: Path) -> list[str]:
    """Ways in which a file could say where a package is, seen from the current directory."""
    return [
        str(path),
        path.name,
        path.stem,
        f"./{path.name}",
        os.path.relpath(path, folder),
        f"../{path.parent.name}/{path.name}",
        f"native/../{path.name}",
    ]


def test_a_manifest_names_op_packages_and_no_code(folder, edit, package, mark, monkeypatch):
    copy = shutil.copytree if package.is_dir() else shutil.copy
    copy(package, folder / package.name)
    for here in (package.parent, folder):
        monkeypatch.chdir(here)
        for name in names_of(package, folder):
            # As trustworthy as a manifest can be made: the digest is right.
            edit({("op_packages",): {name: package_digest(package)}})
            with pytest.raises(OpPackageError, match="and none of that name is registered"):
                tiny_models.open_model(folder, native_ops=True).start(slots=1, max_length=8)
            assert not mark.exists()


def test_a_package_that_the_user_names_is_compared_before_it_is_loaded(folder, edit, package, mark):
    edit({("op_packages",): {package.stem: "0" * 64}})
    model = tiny_models.open_model(folder, custom_ops=[package])
    with pytest.raises(OpPackageError, match="is not the one that"):
        model.start(slots=1, max_length=8)
    assert not mark.exists()


# What a reference names.


@pytest.fixture
def reference(gguf_file, tmp_path):
    """A folder without weights."""
    export(tiny_models.open_model(gguf_file), "cpu", tmp_path / "out", reference_weights=True)
    return tmp_path / "out"


def rename_origin(folder, path):
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["origin"]["path"] = str(path)
    file.write_text(json.dumps(manifest))


def test_the_user_is_told_which_file_a_folder_reads(reference, gguf_file):
    notices = Notices()
    tiny_models.open_model(reference, progress=notices)
    assert f"{reference} takes its weights from {gguf_file}" in notices.messages


@pytest.mark.parametrize("name", ["a pipe", "/dev/zero", "model.gguf"])
def test_what_a_folder_refers_to_is_a_file_by_its_whole_path(
    reference, gguf_file, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(gguf_file, "model.gguf")
    os.mkfifo("a pipe.gguf")
    path = Path(name) if name[0] in "/m" else tmp_path / f"{name}.gguf"
    rename_origin(reference, path)
    notices = Notices()
    with pytest.raises(
        ModelFileError,
        match=r"which is no model file; expected the whole path",
    ):
        tiny_models.open_model(reference, progress=notices)
    assert notices.messages == []


@pytest.mark.parametrize("path", ["/nowhere", "/\0", "/" + "x" * 300, "/\ud800", "/dev/null/x"])
def test_what_a_folder_refers_to_may_be_no_path(reference, path):
    rename_origin(reference, path)
    with pytest.raises(ModelFileError, match="which is not there; bring it back"):
        tiny_models.open_model(reference)


# What a graph names.


def replace_graph(folder, content):
    """Puts another graph in the place of the folder's, as trustworthy as it can be made."""
    (folder / "graph.onnx").write_bytes(content)
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    stored = describe_file(folder / "graph.onnx")
    manifest["files"]["graph.onnx"] = {"nbytes": stored.nbytes, "blake2b": stored.blake2b}
    file.write_text(json.dumps(manifest))


@pytest.fixture
def secret(tmp_path):
    """A file with the values of a vector, outside of every folder."""
    path = tmp_path / "secret"
    path.write_bytes(np.arange(256, dtype=np.float32).tobytes())
    return path


def external(location, offset=0):
    """A tensor whose values are elsewhere."""
    tensor = onnx.TensorProto(name="stolen", data_type=1, dims=[256], data_location=1)
    for key, value in {"location": location, "offset": offset, "length": 1024}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@pytest.mark.parametrize("place", ["initializer", "constant", "function"])
@pytest.mark.parametrize("way", ["whole path", "way up", "link", "memory"])
def test_a_graph_reads_nothing_outside_of_its_folder(folder, secret, monkeypatch, place, way):
    monkeypatch.chdir(folder)
    (folder / "link").symlink_to(secret)
    memory = np.zeros(256, np.float32)
    location, offset = {
        "whole path": (str(secret), 0),
        "way up": (os.path.relpath(secret, Path(tempfile.gettempdir(), "folder")), 0),
        "link": ("link", 0),
        "memory": ("*/_ORT_MEM_ADDR_/*", memory.ctypes.data),
    }[way]
    model = onnx.load(folder / "graph.onnx", load_external_data=False)
    stolen = external(location, offset)
    constant = onnx.helper.make_node("Constant", [], ["stolen"], value=stolen)
    if place == "initializer":
        model.graph.initializer.append(stolen)
    elif place == "constant":
        model.graph.node.insert(0, constant)
    else:
        model.functions.append(
            onnx.helper.make_function("f", "F", [], ["stolen"], [constant], model.opset_import)
        )
        model.opset_import.append(onnx.helper.make_opsetid("f", 1))
        model.graph.node.insert(0, onnx.helper.make_node("F", [], ["stolen"], domain="f"))
    norm = next(node for node in model.graph.node if "LayerNorm" in node.op_type)
    norm.input[1] = "stolen"
    replace_graph(folder, model.SerializeToString())
    with pytest.raises(ModelFileError, match="ONNX Runtime refuses the graph"):
        tiny_models.open_model(folder).start(slots=1, max_length=8)


def test_a_graph_is_in_no_format_that_the_runtime_believes(folder, tmp_path):
    options = onnxruntime().SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "graph.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])]
    graph = onnx.helper.make_graph([node], "graph", [value], outputs)
    opsets = [onnx.helper.make_opsetid("", 20)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnxruntime().InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    replace_graph(folder, (tmp_path / "graph.ort").read_bytes())
    with pytest.raises(ModelFileError, match="ONNX Runtime refuses the graph"):
        tiny_models.open_model(folder).start(slots=1, max_length=8)


def renamed(model, old, new):
    """A graph in which a value has another name."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = new if name == old else name
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: renamed(model, "value.1", "other"), "it has no input value.1;"),
        (lambda model: renamed(model, "logits", "other"), "it has no output logits;"),
        (lambda model: renamed(model, "new_key.0", "other"), "it has no output new_key.0;"),
        (lambda model: renamed(model, "tokens", "other"), "Missing Input: other;"),
        (lambda model: model.graph.node.pop(0), "ONNX Runtime refuses the graph"),
        (
            lambda model: model.graph.input.append(
                onnx.helper.make_tensor_sequence_value_info("more", onnx.TensorProto.FLOAT, [1])
            ),
            "its input 'more' is a seq(tensor(float));",
        ),
    ],
)
def test_a_graph_of_something_else_is_one_line(folder, change, message):
    model = onnx.load(folder / "graph.onnx", load_external_data=False)
    change(model)
    replace_graph(folder, model.SerializeToString())
    with pytest.raises(ModelFileError) as error:
        tiny_models.open_model(folder).start(slots=1, max_length=8).prefill(0, [1])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_graph_whose_names_are_no_text_is_one_line(folder):
    content = (folder / "graph.onnx").read_bytes()
    replace_graph(folder, content.replace(b"GatherBlockQuantized", b"\xff" * 20))
    with pytest.raises(ModelFileError, match="ONNX Runtime refuses the graph"):
        tiny_models.open_model(folder).start(slots=1, max_length=8)


def test_a_folder_that_is_referred_to_has_to_be_a_models(reference, tmp_path):
    rename_origin(reference, tmp_path)
    with pytest.raises(ModelFileError, match="is a folder without a model"):
        tiny_models.open_model(reference)
