"""Plain text: a line is a prompt."""

from __future__ import annotations

from dataclasses import replace

from pipelines.common.batch.forms.rows import RowRecords
from pipelines.common.batch.row import BadRow, Defaults, Row
from pipelines.common.utf8 import NUL


class PlainText(RowRecords):
    """Lines as prompts, with their spaces; all else is as by default."""

    name = "text"

    def parse(self, text: str, line: int, index: int, defaults: Defaults) -> Row | BadRow:
        """Reads one line."""
        if "\0" in text:
            return BadRow(line, None, NUL)
        sampling = replace(defaults.sampling, seed=defaults.sampling.seed + index)
        return Row(line, None, text, sampling, defaults.max_new_tokens, defaults.stops)
