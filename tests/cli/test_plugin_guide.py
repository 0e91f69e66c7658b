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


def test_the_tokenizer_of_the_guide_is_a_whole_plugin(cli, make_plugin, tmp_path):
    section = GUIDE.read_text().partition("## Tokenizers\n")[2]
    path = make_plugin("bytes_plugin", re.search(r"```python\n(.*?)```", section, re.DOTALL)[1])
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
    assert "of the kind 'bytes', known are 'bert', 'gpt2', 'llama'; give" in outcome.err
    assert outcome.err.count("\n") == 1
