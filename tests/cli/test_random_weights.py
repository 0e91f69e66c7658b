"""``--random-weights``: every decoder runs on them, and nobody is told that of something else."""

from __future__ import annotations

import json

import pytest

from pipelines.common.registry.registry import Registry
from pipelines.llama3.pipeline import BUNDLED

DECODERS = sorted(
    name
    for name, entry in Registry.discover().pipelines.items()
    if entry.record.architectures and entry.record.task == "generate"
)
SHORT = ("--prompt", "hi", "--max-new-tokens", "4")


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_runs_on_them(cli, name):
    outcome = cli(name, "--random-weights", *SHORT, "--json")
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert record["generated_tokens"] == 4
    assert record["model"].startswith("random ")
    assert f"{name} runs on random weights: what it says means nothing" in outcome.err


def test_sizes_and_seed(cli):
    def tokens(*args):
        outcome = cli("llama3", "--random-weights", *args, *SHORT, "--json")
        assert outcome.code == 0, outcome.err
        return json.loads(outcome.out)

    usual, again = tokens(), tokens()
    assert usual["text"] == again["text"]
    assert usual["model_fingerprint"] == again["model_fingerprint"]
    other = tokens("--random-config", "seed=5")
    assert other["model_fingerprint"] != usual["model_fingerprint"]
    larger = tokens("--random-config", "layers=3", "--random-config", "biases=attn_q,attn_k")
    assert sum(larger["encodings"].values()) == sum(usual["encodings"].values()) + 9 + 6


def test_commands_about_graphs_take_them(cli, tmp_path):
    outcome = cli("graph", "phi3", "--random-weights", "--target", "cuda", "--json")
    assert json.loads(outcome.out)["target"] == "cuda"
    folder = tmp_path / "out"
    asked = ("llama3", "--random-weights", "--random-config", "seed=5")
    outcome = cli("export", *asked, "--target", "cpu", folder)
    assert outcome.code == 0, outcome.err
    ran = cli("llama3", "--model-path", folder, *SHORT, "--quiet")
    assert ran.out == cli(*asked, "--no-native-ops", *SHORT, "--quiet").out != ""
    assert "random llama weights, seed 5" in cli("inspect", folder).out


@pytest.mark.usefixtures("own_cache")
def test_what_is_made_of_them_is_cached(cli):
    asked = ("llama3", "--random-weights", "--random-config", "seed=5")
    command = "run-pipeline warm-cache llama3 --target cpu --random-weights --random-config seed=5"
    assert f"store it first: {command}" in cli(*asked, "--offline", "--target", "cpu").err
    assert cli("warm-cache", *command.split()[2:]).code == 0
    assert cli(*asked, "--offline", "--target", "cpu", *SHORT).code == 0


def test_in_the_place_of_those_of_a_file(cli):
    outcome = cli("run", BUNDLED, "--random-weights", *SHORT, "--json")
    assert json.loads(outcome.out)["model"] == f"{BUNDLED} with random weights, seed 0"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("echo", "--random-weights"), "pipeline echo has no weights that could be random"),
        (("graph", "echo", "--random-weights"), "pipeline echo has no weights that could be"),
        (("llama3", "--random-config", "layers=3"), "--random-config is about random weights; add"),
        (
            ("llama3", "--random-weights", "--random-config", "layers"),
            "--random-config is 'layers'; expected NAME=VALUE, as layers=4",
        ),
        (
            ("llama3", "--random-weights", *("--random-config", "layers=3") * 2),
            "--random-config names layers twice; leave one out",
        ),
        (
            ("llama3", "--random-weights", "--random-config", "layers=x"),
            "`layers` is 'x'; expected an integer",
        ),
        (
            ("llama3", "--random-weights", "--random-config", "seed=-1"),
            "`random.seed` is -1; expected an integer from 0",
        ),
        (
            ("llama3", "--random-weights", "--model-path", BUNDLED, "--random-config", "heads=2"),
            "have its sizes; leave out heads, or leave out --model-path",
        ),
    ],
)
def test_what_cannot_be_asked_for(cli, args, message):
    outcome = cli(*args)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_folders_keep_their_weights(cli, tmp_path):
    folder = tmp_path / "out"
    asked = ("llama3", "--random-weights")
    outcome = cli("export", *asked, "--target", "cpu", folder, "--reference-weights")
    assert outcome.code == 2
    assert "cannot refer to random llama weights, seed 0, which is no file; leave out --ref" in (
        outcome.err
    )
    assert not folder.exists()
    assert cli("export", *asked, "--target", "cpu", folder).code == 0
    outcome = cli(*asked, "--model-path", folder)
    assert outcome.code == 2
    assert (
        "runs on the weights that it has; name a model file, or leave out --random" in outcome.err
    )


def test_a_plugin_that_knows_nothing_of_them(cli, make_plugin):
    path = make_plugin(
        "own",
        """
from pipelines.plugin import PipelineRecord, hookimpl

@hookimpl
def register_pipelines():
    from pipelines.echo.pipeline import EchoModel
    class Own:
        def open(self, options, registry, progress):
            return EchoModel()
    return [PipelineRecord("own", "Of its own kind.", load=Own)]
""",
    )
    outcome = cli("--plugin-path", path, "own", "--random-weights", *SHORT)
    assert outcome.code == 2
    assert "pipeline own has no weights that could be random" in outcome.err
