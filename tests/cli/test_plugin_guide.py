"""The example of the plugin author's guide does what the guide says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gguf

from pipelines.common.text.byte_alphabet import byte_alphabet

GUIDE = Path(__file__).parents[2] / "plugins" / "README.md"


def test_the_example_is_a_whole_plugin(cli, make_plugin):
    source = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    path = make_plugin("shout", source)
    outcome = cli("--plugin-path", path, "shout", "--prompt", "a b c!", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "A B C!", "")
    prompts = ["--prompt", "one two", "--prompt", "one three"]
    outcome = cli("--plugin-path", path, "shout", *prompts, "--quiet")
    assert [json.loads(line)["text"] for line in outcome.out.splitlines()] == [
        "ONE TWO",
        "ONE THREE",
    ]
    assert "Repeats the prompt in capitals." in cli("--plugin-path", path, "list").out


def block(section):
    """The one block of Python in a section."""
    text = GUIDE.read_text().split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def test_the_command_of_the_guide(cli, make_plugin):
    path = make_plugin("guided", block("Commands"))
    outcome = cli("--plugin-path", path, "architectures", "--like", "llam")
    assert (outcome.code, outcome.out, outcome.err) == (0, "llama: llama3\n", "")
    outcome = cli("--plugin-path", path, "architectures", "--like", "nothing")
    assert outcome.code == 2
    assert "no architecture is like 'nothing'" in outcome.err


def test_the_sampler_of_the_guide(cli, make_plugin):
    path = make_plugin("guided", block("Samplers"))
    args = ("--plugin-path", path, "echo", "--prompt", "abcabx", "--quiet")
    assert cli(*args).out == "abcabx"
    order = "no_repeat(length=3);temperature"
    # After "ab" there was "c" already, and never "x" in what is said.
    outcome = cli(*args, "--samplers", order, "--max-new-tokens", "40", "--ignore-eos")
    text = "abcabx" + outcome.out
    assert outcome.code == 0, outcome.err
    assert len({text[i : i + 3] for i in range(len(text) - 2)}) == len(text) - 2


def test_the_tokenizer_of_the_guide_is_a_whole_plugin(cli, make_plugin, tmp_path):
    path = make_plugin("bytes_plugin", block("Tokenizers"))
    model = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(model, "llama")
    writer.add_tokenizer_model("bytes")
    writer.add_token_list([*byte_alphabet()])
    for part in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{part}_to_file")()
    writer.close()
    asked = ("tokenize", "--model-path", model, "--text", "Hé\n", "--json")
    outcome = cli("--plugin-path", path, *asked)
    alphabet = [*byte_alphabet().values()]
    assert json.loads(outcome.out)["ids"] == [alphabet.index(byte) for byte in "Hé\n".encode()]
    assert "One token a byte." in cli("--plugin-path", path, "list").out
    outcome = cli(*asked)
    assert outcome.code == 1
    assert "of the kind 'bytes', known are 'bert', 'gemma4', 'gpt2', 'llama'; give" in outcome.err
    assert outcome.err.count("\n") == 1
