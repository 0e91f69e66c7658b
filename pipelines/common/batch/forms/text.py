"""Plain text: a line is a prompt."""

from __future__ import annotations

from pipelines.common.batch.forms.rows import RowRecords
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.requests.text import Defaults, TextRequest
from pipelines.common.utf8 import NUL


class PlainText(RowRecords):
    """Lines as prompts, with their spaces; all else is as by default."""

    name = "text"

    def parse(
        self, text: str, line: int, index: int, defaults: Defaults
    ) -> Row[TextRequest] | BadRow:
        """Reads one line."""
        if "\0" in text:
            return BadRow(line, None, NUL)
        return Row(line, None, defaults.request(text, index))
