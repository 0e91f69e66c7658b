"""The example of the plugin author's guide does what the guide says."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "plugins" / "README.md"


def test_the_example_is_a_whole_plugin(cli, make_plugin):
    source = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    path = make_plugin("reverse", source)
    outcome = cli("--plugin-path", path, "reverse", "--prompt", "stressed", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "desserts", "")
    assert "Repeats the prompt backwards." in cli("--plugin-path", path, "list").out
