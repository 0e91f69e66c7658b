"""The committed reference of commands is what the program has now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "command_reference.py"


def test_it_is_current():
    spec = importlib.util.spec_from_file_location("command_reference", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    current = script.reference() == script.FILE.read_text(encoding="utf-8")
    assert current, "commands have changed; renew their reference: python docs/command_reference.py"
