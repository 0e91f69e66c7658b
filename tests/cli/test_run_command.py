"""``run MODEL``: the pipeline is the one that the model is for."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_models import llama, write_gguf

RUN = ("--prompt", "ab", "--max-new-tokens", "4", "--quiet")

ANOTHER = """
from pipelines.plugin import decoder, hookimpl

@hookimpl
def register_pipelines():
    return [
        decoder(
            "another",
            "Runs Llamas too.",
            architectures=("llama",),
            network="pipelines.llama3.model:build",
        )
    ]
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("run") / "model.gguf", llama())


def test_a_file_says_what_it_is(cli, model):
    expected = cli("llama3", "--model-path", model, *RUN)
    outcome = cli("run", model, *RUN)
    assert outcome.code == expected.code == 0
    assert outcome.out == expected.out


def test_a_folder_says_which_pipeline_has_exported_it(cli, model, tmp_path):
    assert cli("export", "llama3", tmp_path / "out", "--model-path", model, "--quiet").code == 0
    assert cli("run", tmp_path / "out", *RUN).out == cli("run", model, *RUN).out


def test_a_batch(cli, model):
    outcome = cli("run", model, "--prompt", "a", "--prompt", "b", "--quiet")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 2


def test_an_architecture_that_nothing_runs(cli, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama(), architecture="unheard-of")
    outcome = cli("run", path, *RUN)
    assert outcome.code == 1
    assert "no pipeline here runs architecture 'unheard-of'; there are some for " in outcome.error
    assert "llama" in outcome.error.partition("some for")[2]


def test_a_folder_of_a_family_that_runs_from_gguf_files_only(cli, tmp_path):
    """One that nobody has written a translation for, which may call it a little otherwise."""
    (tmp_path / "another.py").write_text(ANOTHER.replace('"llama"', '"a-novel"'))
    (tmp_path / "config.json").write_text('{"model_type": "a_novel"}')
    save_file({"a": np.zeros((32, 32), np.float32)}, tmp_path / "model.safetensors")
    outcome = cli("--plugin-path", tmp_path / "another.py", "run", tmp_path, *RUN)
    assert outcome.code == 1
    assert outcome.error == (
        f"{tmp_path}: pipeline another runs architecture 'a-novel' from GGUF files, and no folder;"
        " llama.cpp's convert_hf_to_gguf.py makes such a file of it"
    )


def test_an_architecture_that_two_run(cli, model, tmp_path):
    (tmp_path / "another.py").write_text(ANOTHER)
    outcome = cli("--plugin-path", tmp_path / "another.py", "run", model, *RUN)
    assert outcome.code == 2
    assert "pipelines llama3 and another run architecture 'llama'" in outcome.error
    assert f"llama3 --model-path {model}" in outcome.error


def test_a_file_that_says_nothing(cli, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "x")
    del writer.kv_data[0]["general.architecture"]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    outcome = cli("run", tmp_path / "m.gguf", *RUN)
    assert outcome.code == 1
    assert "'general.architecture' is missing" in outcome.error
