from __future__ import annotations

import json
import shutil

import pytest
import tiny_models
from gguf import GGMLQuantizationType as Type

from pipelines.common.export.write import export


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory):
    """Tied, with scaled frequencies, and matrices that run as float16, q4_0 and q8_0."""
    return tiny_models.write_gguf(
        tmp_path_factory.mktemp("model") / "tiny.gguf",
        tiny_models.llama(tied=True),
        Type.Q4_0,
        exceptions={"token_embd.weight": Type.Q8_0, "blk.0.ffn_up.weight": Type.F16},
        metadata={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0},
    )


@pytest.fixture(scope="session")
def exported(gguf_file, tmp_path_factory):
    """A folder for the cpu, which tests copy before they change it."""
    folder = tmp_path_factory.mktemp("exports") / "cpu"
    model = tiny_models.open_model(gguf_file, encoding="auto")
    export(model, "cpu", folder, reference_weights=False)
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    """A folder of the test's own."""
    return shutil.copytree(exported, tmp_path / "folder")


@pytest.fixture
def edit(folder):
    """Changes values of the manifest, each given by its path in it."""

    def change(values):
        file = folder / "manifest.json"
        manifest = json.loads(file.read_text())
        for path, value in values.items():
            *outer, last = path
            inner = manifest
            for key in outer:
                inner = inner[key]
            if value is ...:
                del inner[last]
            else:
                inner[last] = value
        file.write_text(json.dumps(manifest))

    return change
