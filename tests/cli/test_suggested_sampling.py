"""What model files suggest for sampling: applied in chats alone, told, kept, and no obstacle."""

from __future__ import annotations

import json

import pytest
from batch_files import records

import pipelines
from pipelines.common.checkpoints.gguf.write import write_gguf
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.registry.registry import Registry

TEMPLATE = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<|eot_id|>{% endfor %}a:"
PREFIX = "general.sampling."
SUGGESTED = {"temp": 0.6, "top_p": 0.9, "penalty_repeat": 1.1, "penalty_last_n": 64}
APPLIED = {
    "temperature": 0.6,
    "top_p": 0.9,
    "repetition_penalty": 1.1,
    "repeat_last_n": 64,
}
ASK = ("--chat", "--prompt", "Hi", "--max-new-tokens", "2", "--no-native-ops", "--json")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes a Llama that says nothing sensible, with suggestions."""

    def write(name="t.gguf", **suggested):
        keys = {f"{PREFIX}{key}": value for key, value in suggested.items()}
        wanted = RandomWeights(
            config={"context_length": 256},
            metadata={"tokenizer.chat_template": TEMPLATE, **keys},
        )
        pipeline = Registry.discover(()).load_pipeline("llama3")
        path = tmp_path_factory.mktemp("m") / name
        return write_gguf(pipeline.random_checkpoint(wanted), path)

    return write


@pytest.fixture(scope="module")
def model(written):
    return written(**SUGGESTED)


def used(outcome):
    """The settings of a run that differ from those without any suggestion."""
    assert outcome.code == 0, outcome.err
    settings = json.loads(outcome.out)["sampling"]
    usual = SamplingParams().as_json()
    changed = {name for name in usual if settings[name] != usual[name]}
    return {name: settings[name] for name in changed - {"seed"}}


def test_a_reply_is_chosen_as_the_file_suggests(cli, model):
    outcome = cli("run", model, *ASK)
    assert used(outcome) == APPLIED
    assert (
        "replies are chosen as the model suggests: --repeat-last-n 64, --repetition-penalty 1.1,"
        " --temperature 0.6, --top-p 0.9\n"
    ) in outcome.err


def test_what_the_user_sets_stays_also_where_it_is_the_default(cli, model):
    outcome = cli("run", model, *ASK, "--temperature", "0", "--top-p", "0.5")
    others = {name: APPLIED[name] for name in ("repetition_penalty", "repeat_last_n")}
    assert used(outcome) == {**others, "top_p": 0.5}


def test_a_text_to_continue_is_not_drawn(cli, model):
    outcome = cli("run", model, *ASK[1:])
    assert used(outcome) == {}
    assert "suggests" not in outcome.err


def test_a_conversation_has_them_and_set_overrides(process, model):
    lines = "/set top_p\n/set temperature 0\n/set temperature\n"
    outcome = process("chat", model, "--no-native-ops", stdin=lines.encode())
    assert "replies are chosen as the model suggests: " in outcome.err
    assert outcome.err.splitlines()[-2:] == ["top_p 0.9", "temperature 0"]


def test_messages_of_a_batch_have_them_and_rows_override(cli, model, prompts, output):
    rows = prompts({"prompt": "Hi"}, {"prompt": "Hi", "temperature": 0, "repetition_penalty": 1})
    options = ("--prompts-file", rows, "--max-new-tokens", "24", "--seed", "5", "--no-native-ops")
    assert cli("run", model, "--chat", *options, "--output", output).code == 0
    drawn, greedy = (record["text"] for record in records(output.read_text()))
    asked = (*ASK[:3], "--max-new-tokens", "24", "--no-native-ops", "--quiet", "--seed", "5")
    assert drawn == cli("run", model, *asked).out != greedy
    settings = json.loads(output.with_name(f"{output.name}.manifest.json").read_text())["settings"]
    assert settings["temperature"] == 0.6


@pytest.mark.parametrize(
    ("suggested", "said"),
    [
        ({"temp": -1.0}, "temperature is -1.0; expected a number 0 or more"),
        ({"temp": float("nan")}, 'temperature is "nan"; expected a number'),
        ({"temp": "hot"}, 'temperature is "hot"; expected a number'),
        ({"temp": 0.5, "top_k": -7}, "top_k is -7; expected an integer from 0"),
        ({"temp": 0.5, "top_p": [0.5]}, 'top_p is "[0.5]"; expected a number'),
        ({"sequence": "top_k;infill"}, "unknown sampler 'infill'"),
        ({"mirostat": 2}, "mirostat is 2, which is not offered; expected 0 or null"),
    ],
)
def test_what_is_no_setting_is_told_and_left_out(cli, written, suggested, said):
    outcome = cli("run", written(**suggested), *ASK)
    assert f"run_pipeline: the model suggests what is left out: {said}" in outcome.err
    kept = {"temperature": 0.5} if 0.5 in suggested.values() else {}
    assert used(outcome) == kept


def test_what_narrows_a_choice_makes_one(cli, written):
    assert used(cli("run", written(top_k=40), *ASK)) == {"top_k": 40, "temperature": 1}


def test_an_order_is_one_of_them(cli, written):
    outcome = cli("run", written(sequence="top_k;temperature", temp=0.7), *ASK)
    assert used(outcome)["samplers"] == "top_k;temperature"


def test_in_python(model):
    with pipelines.load(model, native_ops=False) as loaded:
        loaded.generate("Hi", max_new_tokens=1)
        assert not any("suggests" in line for line in loaded.notices)
        said = loaded.chat(top_p=1.0, repeat_last_n=-1, max_new_tokens=24, seed=3)
        assert loaded.notices[-1] == (
            "replies are chosen as the model suggests: `repetition_penalty` 1.1, `temperature` 0.6"
        )
        settings = {"temperature": 0.6, "repetition_penalty": 1.1, "max_new_tokens": 24, "seed": 3}
        prompt = said.send("Hi").read()
        again = loaded.chat(**settings, top_p=1.0, repeat_last_n=-1).send("Hi").read()
        assert prompt.tokens == again.tokens


def test_an_exported_folder_keeps_them(cli, model, tmp_path):
    assert cli("export", "llama3", "--model-path", model, "--target", "cpu", tmp_path / "out")
    outcome = cli("run", tmp_path / "out", *ASK[:-2], "--json")
    assert used(outcome) == APPLIED
    assert "sampling in a chat = temperature 0.6, top_p 0.9" in cli("inspect", tmp_path / "out").out


def test_inspect_shows_them(cli, model):
    assert f"{PREFIX}penalty_last_n = 64" in cli("inspect", model).out
