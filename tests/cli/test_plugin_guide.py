"""The example of the plugin author's guide does what the guide says."""

from __future__ import annotations

import json
import re
from pathlib import Path

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
