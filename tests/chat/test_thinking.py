"""Thoughts are told from replies, however the text is cut into pieces."""

from __future__ import annotations

import random

import pytest

from pipelines.common.chat.thinking import Thinking, spoken

CASES = {
    "none": ("", "Yes.", "", "Yes."),
    "tags": ("", "<think>\nhm, so\n</think>\n\nYes.", "hm, so", "Yes."),
    "blank before": ("", "\n <think>hm</think>Yes.", "hm", "Yes."),
    "empty": ("", "<think>\n\n</think>\n\nYes.", "", "Yes."),
    "begun by the prompt": ("<|a|>\n<think>\n", "hm\n</think>\n\nYes.", "hm", "Yes."),
    "ended by the prompt": ("<think>\n\n</think>\n\n", "Yes.", "", "Yes."),
    "without an end": ("", "<think>hm </thin", "hm </thin", ""),
    "later on": ("", "Say <think>x</think>", "", "Say <think>x</think>"),
    "of another": ("", "[THINK]hm[/THINK]Yes.", "hm", "Yes."),
    "nearly one": ("", "<thinker>", "", "<thinker>"),
    "spaces kept": ("", "<think>a\n\nb  c</think> Yes \n", "a\n\nb  c", "Yes \n"),
    "only begun": ("", "<thi", "", "<thi"),
}


@pytest.mark.parametrize(("prompt", "reply", "thought", "said"), CASES.values(), ids=CASES)
def test_parts_do_not_depend_on_the_pieces(prompt, reply, thought, said):
    generator = random.Random(0)
    for _ in range(30):
        thinking, parts, rest = Thinking(prompt), [], reply
        while rest:
            size = generator.randint(1, 6)
            parts += thinking.push(rest[:size])
            rest = rest[size:]
        parts += thinking.flush()
        assert "".join(part.text for part in parts if part.thought) == thought
        assert "".join(part.text for part in parts if not part.thought) == said
    assert spoken(reply, prompt) == said
