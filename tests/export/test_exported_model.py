from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import tokenizers
from notices import Notices
from tokenizers import decoders, models

from pipelines.common.errors import (
    ExportError,
    ModelFileError,
    OpPackageError,
    TargetError,
    UsageError,
)
from pipelines.common.export.manifest import read_manifest
from pipelines.common.export.write import export
from pipelines.common.program.target import Deployment
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text.byte_alphabet import byte_alphabet
from pipelines.common.text.sentence_pieces import Pieces, SentencePieces
from pipelines.common.text.tokenizer import Tokenizer
from pipelines.common.text_generation import ModelOptions

PROMPT = tiny_models.random_tokens(20)

PACKAGE = """
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Rule
from pipelines.common.program.package import OpPackage

PACKAGE = OpPackage(
    "SiLU spelled out.",
    rules={"cpu": [Rule("Sigmoid", patterns.silu, lambda op, x: op.Mul(x, op.Sigmoid(x)))]},
)
"""


def logits(model):
    return model.start(slots=1, max_length=32).score(PROMPT)


def test_a_folder_computes_what_the_model_file_does(exported, gguf_file):
    folder, file = (tiny_models.open_model(path, encoding="auto") for path in (exported, gguf_file))
    np.testing.assert_array_equal(logits(folder), logits(file))
    text = "The thing\n<|eot_id|> there, über"
    assert folder.tokenizer.encode(text) == file.tokenizer.encode(text)
    assert folder.tokenizer.end_ids == file.tokenizer.end_ids
    assert folder.context_length == file.context_length
    described, expected = folder.describe(), file.describe()
    for key in ("pipeline", "model_fingerprint", "quantization_encoding", "encodings", "target"):
        assert described[key] == expected[key]


def test_several_sequences_run_side_by_side(exported):
    runner = tiny_models.open_model(exported).start(slots=2, max_length=32)
    alone = [runner.prefill(slot, PROMPT[: 5 + slot]) for slot in (0, 1)]
    tokens = [int(row.argmax()) for row in alone]
    together = runner.decode(tokens).copy()
    for slot in (0, 1):
        expected = runner.score([*PROMPT[: 5 + slot], tokens[slot]])[-1]
        np.testing.assert_allclose(together[slot], expected, atol=1e-4)


def test_weights_are_views_of_the_mapped_file_and_tied_ones_are_one(exported):
    model = tiny_models.open_model(exported)
    deployment = model.deployment(slots=1, max_length=32)
    graph = model.target.lower(deployment)
    made = list(deployment.program.tensors(graph, model.target.layouts))
    assert all(not array.flags.writeable and not array.flags.owndata for _, array in made)
    shared = [{w.parameter for w in weights} for weights, _ in made if len(weights) > 1]
    assert {"embedding.weight", "head.weight"} in shared
    assert deployment.program.weights.total_bytes == sum(array.nbytes for _, array in made)


def test_the_graph_is_for_its_own_target_alone(exported):
    model = tiny_models.open_model(exported, target="torch")
    with pytest.raises(TargetError, match="exported folder has only a graph"):
        model.start(slots=1, max_length=32)
    deployment = model.deployment(slots=1, max_length=32)
    with pytest.raises(ModelFileError, match="target cpu in float32, wanted is one for cuda in"):
        deployment.program.lowered(deployment, "cuda", (), "float16")


def test_a_folder_keeps_its_encodings_and_says_so_where_others_are_asked_for(exported):
    notices = Notices()
    tiny_models.open_model(exported, encoding="q4_0", progress=notices)
    assert notices.messages == [f"{exported} keeps the encodings of its export, `encoding` auto"]
    notices.messages.clear()
    tiny_models.open_model(exported, encoding="auto", progress=notices)
    assert notices.messages == []


def test_a_folder_is_no_model_file_to_export(exported, tmp_path):
    with pytest.raises(UsageError, match="cannot be exported again; name its model file"):
        export(tiny_models.open_model(exported), "cpu", tmp_path / "out", reference_weights=False)


# What is referred to.


@pytest.fixture
def reference(gguf_file, tmp_path):
    """A folder without weights, and the model file that has them."""
    file = shutil.copy(gguf_file, tmp_path / "model.gguf")
    model = tiny_models.open_model(file, encoding="auto")
    export(model, "cpu", tmp_path / "out", reference_weights=True)
    return tmp_path / "out", file


def test_weights_can_stay_in_the_model_file(reference):
    folder, file = reference
    assert not (folder / "weights.bin").exists()
    assert not (folder / "model.onnx").exists()  # which would be nothing without them
    opened, expected = (tiny_models.open_model(path, encoding="auto") for path in (folder, file))
    np.testing.assert_array_equal(logits(opened), logits(expected))


def test_a_model_file_that_is_referred_to_may_be_touched_and_copied(reference):
    folder, file = reference
    os.utime(file, ns=(0, 0))
    tiny_models.open_model(folder)
    shutil.copyfile(file, file.with_suffix(".copy"))
    file.with_suffix(".copy").replace(file)
    tiny_models.open_model(folder)


def test_a_model_file_that_is_referred_to_has_to_stay_as_it_was(reference):
    folder, file = reference
    os.utime(file, ns=(0, 0))
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    os.utime(file, ns=(0, 0))
    with pytest.raises(ModelFileError, match="which has changed; export the model again"):
        tiny_models.open_model(folder)
    file.unlink()
    with pytest.raises(ModelFileError, match="which is not there; bring it back"):
        tiny_models.open_model(folder)


def test_a_layout_that_a_weight_cannot_have_is_one_line(reference):
    folder, _ = reference
    manifest = json.loads((folder / "manifest.json").read_text())
    weight = next(w for w in manifest["weights"] if w["layout"] == "float32")
    weight["layout"] = "codes"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFileError, match="lays weights out as their encodings do not allow"):
        logits(tiny_models.open_model(folder))


# Op packages.


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "spelled_silu.py"
    path.write_text(PACKAGE)
    return path


def test_op_packages_that_took_no_part_are_not_asked_for(exported):
    assert read_manifest(exported).op_packages == {}
    with pytest.raises(OpPackageError, match="was exported without op package 'native'"):
        tiny_models.open_model(exported, custom_ops=[Path("native")]).start(slots=1, max_length=32)


def test_a_folder_runs_with_the_op_packages_of_its_export(gguf_file, package, tmp_path):
    out = tmp_path / "out"
    model = tiny_models.open_model(gguf_file, encoding="auto", custom_ops=[package])
    export(model, "cpu", out, reference_weights=False)
    assert list(read_manifest(out).op_packages) == ["spelled_silu"]

    opened = tiny_models.open_model(out, custom_ops=[package])
    np.testing.assert_array_equal(logits(opened), logits(model))
    assert opened.describe()["op_packages"] == ["spelled_silu"]
    with pytest.raises(OpPackageError, match=r"package 'spelled_silu', and none of that name"):
        logits(tiny_models.open_model(out))
    package.write_text(PACKAGE + "# another\n")
    with pytest.raises(OpPackageError, match=r"is not the one that .* was exported with"):
        logits(tiny_models.open_model(out, custom_ops=[package]))


def test_registered_op_packages_are_named_by_name_and_left_out_otherwise(package, tmp_path):
    plugin = tmp_path / "brings_silu.py"
    plugin.write_text(
        "from pathlib import Path\n"
        "from pipelines.common.registry.hookspecs import OpPackageRecord, hookimpl\n"
        "@hookimpl\n"
        "def register_op_packages():\n"
        f"    return [OpPackageRecord('silu', 'SiLU.', Path({str(package)!r}))]\n"
    )
    registry = Registry.discover([plugin])
    options = ModelOptions(custom_ops=(Path("silu"),), registered_ops=False)
    (loaded,) = registry.packages.of_model(options, Progress())
    assert (loaded.name, loaded.path, loaded.named) == ("silu", package, True)
    assert registry.packages.of_model(ModelOptions(registered_ops=False), Progress()) == ()


# Writing.


def test_nothing_is_overwritten(gguf_file, tmp_path):
    model = tiny_models.open_model(gguf_file, encoding="auto")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="mine is not empty; name another folder"):
        export(model, "cpu", tmp_path / "mine", reference_weights=False)
    with pytest.raises(ExportError, match=r"notes\.txt is no folder; name another folder"):
        export(model, "cpu", tmp_path / "mine" / "notes.txt", reference_weights=False)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_taken_and_parents_are_made(gguf_file, tmp_path):
    model = tiny_models.open_model(gguf_file, encoding="auto")
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b"):
        export(model, "cpu", out, reference_weights=True)
        assert (out / "manifest.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty"]


def test_a_full_disk_leaves_nothing_behind(gguf_file, tmp_path):
    model = tiny_models.open_model(gguf_file, encoding="auto")
    model.target.lower(
        model.deployment(slots=1, max_length=32)
    )  # the cache may grow, the folder not
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ExportError, match=r"cannot write .*out: File too large; make room"):
            export(model, "cpu", tmp_path / "out", reference_weights=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


# Bad folders.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({("format",): 1}, "its format is '1', this version of the driver reads 6; export the"),
        ({("format",): ...}, "its format is 'None', this"),
        ({("target",): ["cpu"]}, "Expected `str`, got `array` - at `$.target`"),
        ({("weights",): ...}, "missing required field `weights`"),
        ({("origin", "encoding"): "q5"}, "origin.encoding is 'q5', which nobody can ask for"),
        ({("config", "layers"): "2"}, "Expected `int`, got `str` - at `$.config.layers`"),
        ({("config", "layers"): 2**30}, "config.layers is 1073741824, but there are"),
        ({("config", "layers"): 1}, "state_bytes is 2048, which does not fit config"),
        ({("config", "head_dim"): 0}, "config: head_dim is 0, expected a positive 32-bit number"),
        ({("config", "kv_heads"): 3}, "config: there are 4 heads of 64 on 3"),
        ({("config", "norm_epsilon"): -1}, "config: norm_epsilon is -1.0, expected a positive"),
        ({("config", "biases"): [1]}, "Expected `str`, got `int` - at `$.config.biases[0]`"),
        ({("config", "more"): 1}, "config.more is not known"),
        ({("config", "rope", "more"): 1}, "config.rope.more is not known"),
        ({("config", "rope", "dims"): 3}, "config: RoPE rotates 3 elements of a head; expected a"),
        ({("config", "rope", "dims"): 66}, "config: RoPE rotates 66 elements of heads of 64"),
        ({("config", "rope", "base"): 0.5}, "config: the RoPE base is 0.5; expected a number"),
        ({("config", "rope", "factors"): [1.0]}, "config: there are 1 RoPE factors; expected 32"),
        ({("config", "rope", "factors"): [0] * 32}, "gives frequencies that are not positive"),
        ({("config", "rope", "factors"): [1e-300] * 32}, "gives frequencies that are not positive"),
        ({("config", "rope", "scaling", "factor"): 0}, "config: the RoPE scaling factor is 0"),
        (
            {("config", "rope", "scaling", "kind"): "x"},
            "Invalid enum value 'x' - at",
        ),
        ({("rotations", 0, "frequencies", 3): 0.5}, "rotations are not what config makes them"),
        ({("rotations", 0, "magnitude"): 2}, "rotations are not what config makes them"),
        ({("rotations",): []}, "rotations are not what config makes them"),
        ({("weights", 0, "dtype"): "O"}, "expected a number"),
        ({("weights", 0, "shape"): [-1, -1]}, "is '[-1, -1]'"),
        ({("weights", 0, "shape"): [2**62, 2**62]}, "expected 21267647932558653966460912964485"),
        ({("files", "../escape"): {"nbytes": 1, "blake2b": ""}}, "'../escape' is not one of an"),
        ({("files", "/etc/passwd"): {"nbytes": 1, "blake2b": ""}}, "'/etc/passwd' is not one"),
        ({("files", "graph.onnx"): ...}, "files: 'graph.onnx' is missing"),
        ({("files", "weights.bin", "nbytes"): 0}, "files: 'weights.bin' has 0 bytes"),
        ({("files", "graph.onnx", "nbytes"): 5}, "graph.onnx has "),
    ],
)
def test_a_manifest_is_read_strictly(folder, edit, values, message):
    edit(values)
    with pytest.raises(ModelFileError) as error:
        tiny_models.open_model(folder)
    assert message in str(error.value)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"offset": 2**60}, "is outside of weights.bin"),
        ({"offset": -4096}, "is outside of weights.bin"),
        ({"offset": 1}, "from a multiple of 4096"),
        ({"nbytes": 1}, "has 1 bytes from 0; expected"),
    ],
)
def test_weights_have_to_be_inside_their_file(folder, edit, place, message):
    name = next(n for n, p in read_manifest(folder).places.items() if p.offset == 0)
    edit({("places", name, key): value for key, value in place.items()})
    with pytest.raises(ModelFileError, match=message):
        tiny_models.open_model(folder)
    edit({("places", name): ...})
    with pytest.raises(ModelFileError, match=f"places: '{name}' is missing"):
        tiny_models.open_model(folder)


def test_weights_have_to_fit_the_network(folder, edit):
    weights = read_manifest(folder).weights
    norm = next(n for n, weight in enumerate(weights) if weight.parameter == "norm.weight")
    edit({("weights", norm, "parameter"): "another.weight"})
    with pytest.raises(ModelFileError, match=r"'another.weight' is in only one of the graph's"):
        tiny_models.open_model(folder)
    edit({("weights", norm, "parameter"): "norm.weight", ("config", "hidden_size"): 512})
    with pytest.raises(ModelFileError, match=r"shape of \S+ is \[512, 256\], but .* \[512, 512\]"):
        tiny_models.open_model(folder)
    edit({("config", "hidden_size"): 256, ("config", "vocabulary"): 321})
    with pytest.raises(ModelFileError, match=r"embedding.weight:\w+ is \[320, .* \[321, 256\]"):
        tiny_models.open_model(folder)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000, b"1" * 5000])
def test_a_manifest_that_is_none_is_one_line(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"manifest\.json cannot be used: ") as error:
        tiny_models.open_model(folder)
    assert "\n" not in str(error.value)


def test_a_manifest_of_any_size_is_not_read(folder):
    os.truncate(folder / "manifest.json", 65 << 20)
    with pytest.raises(ModelFileError, match="it is larger than 64 MiB"):
        tiny_models.open_model(folder)


def test_a_folder_without_manifest_is_none(tmp_path):
    with pytest.raises(ModelFileError, match=r"is a folder without a model: expected one of"):
        tiny_models.open_model(tmp_path)


@pytest.mark.parametrize("name", ["graph.onnx", "weights.bin", "model.onnx", "tokenizer.json"])
def test_files_have_to_be_there_in_their_size_and_no_links(folder, name, tmp_path):
    file = folder / name
    shutil.move(file, tmp_path / "elsewhere")
    with pytest.raises(ModelFileError, match=f"{name} cannot be used: No such file"):
        tiny_models.open_model(folder)
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelFileError, match=f"{name} cannot be used: it is a link or no file"):
        tiny_models.open_model(folder)
    file.unlink()
    shutil.copy(tmp_path / "elsewhere", file)
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(ModelFileError, match=rf"{name} has \d+ bytes, exported were \d+"):
        tiny_models.open_model(folder)


@pytest.mark.parametrize("name", ["graph.onnx", "tokenizer.json", "generation_config.json"])
def test_small_files_have_to_be_those_that_were_exported(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=f"{name} has changed since it was exported"):
        tiny_models.open_model(folder)


def test_a_folder_of_another_pipeline_is_refused(folder, edit):
    edit({("pipeline",): "qwen3"})
    with pytest.raises(ModelFileError, match="from pipeline 'qwen3'; llama3 cannot run it"):
        tiny_models.open_model(folder)


def test_nothing_in_the_manifest_is_left_to_the_reader(exported):
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["driver"]
    assert {"onnxruntime", "onnxscript", "pipeline-driver"} <= manifest["versions"].keys()
    assert manifest["origin"]["encoding"] == "auto"
    assert manifest["config"]["rope"]["dims"] == manifest["config"]["head_dim"]
    assert isinstance(
        tiny_models.open_model(exported).deployment(slots=1, max_length=2), Deployment
    )


def test_a_folder_ends_where_its_model_file_does(gguf_file, tmp_path):
    backend = tokenizers.Tokenizer(models.BPE(byte_alphabet() | {"<|im_end|>": 256}, []))
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(["<|end|>"])  # neither of the two is a control token
    tokenizer = Tokenizer(
        backend, vocab_size=258, bos_id=None, end_ids=[5], adds_bos=False, source="odd"
    )
    model = tiny_models.open_model(gguf_file, encoding="auto")
    model = dataclasses.replace(model, tokenizer=tokenizer)
    export(model, "cpu", tmp_path / "out", reference_weights=True)
    found = tiny_models.open_model(tmp_path / "out").tokenizer
    assert found.end_ids == tokenizer.end_ids == {5, 256, 257}
    assert found.decode([256, 257]) == tokenizer.decode([256, 257]) == ""


def test_a_folder_has_sentencepiece_in_its_own_format(gguf_file, tmp_path):
    words = ["\u2581", "a", "b", "\u2581a", "ab", "\u2581ab", "<end_of_turn>", "a\u2581b"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    types = [2, 3, 3, *[6] * 256, *[1] * (len(words) - 1), 4]
    tokenizer = Tokenizer(
        SentencePieces(Pieces(pieces, [-float(id) for id in range(len(pieces))], types), "odd"),
        vocab_size=len(pieces),
        bos_id=1,
        end_ids=[2],
        adds_bos=True,
        source="odd",
    )
    model = tiny_models.open_model(gguf_file, encoding="auto")
    model = dataclasses.replace(model, tokenizer=tokenizer)
    export(model, "cpu", tmp_path / "out", reference_weights=True)
    assert (tmp_path / "out" / "tokenizer.model").exists()
    assert not (tmp_path / "out" / "tokenizer.json").exists()
    found = tiny_models.open_model(tmp_path / "out").tokenizer
    for text in ("", "ab a b\n\u00e9", "ab<end_of_turn>a b</s>a", " <s>  "):
        assert found.encode(text) == tokenizer.encode(text)
        assert found.encode(text, special=False) == tokenizer.encode(text, special=False)
    assert found.describe() | {"source": ""} == tokenizer.describe() | {"source": ""}
