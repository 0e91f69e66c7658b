"""Plain text: a line is a prompt."""

from __future__ import annotations

from dataclasses import replace

from pipelines.common.batch.forms.rows import RowRecords
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.requests.text import Defaults, TextRequest
from pipelines.common.utf8 import NUL


class PlainText(RowRecords):
    """Lines as prompts, with their spaces; all else is as by default."""

    name = "text"

    def parse(self, text: str, line: int, index: int, defaults: Defaults) -> Row | BadRow:
        """Reads one line."""
        if "\0" in text:
            return BadRow(line, None, NUL)
        sampling = replace(defaults.sampling, seed=defaults.sampling.seed + index)
        request = TextRequest(text, sampling, defaults.max_new_tokens, defaults.stops)
        return Row(line, None, request)
