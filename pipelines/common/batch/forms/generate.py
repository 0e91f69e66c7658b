"""The forms of prompts, and of what came of them."""

from __future__ import annotations

from typing import Final

from pipelines.common.batch.form import Forms
from pipelines.common.batch.forms.completions import Completions
from pipelines.common.batch.forms.rows import JsonRows
from pipelines.common.batch.forms.text import PlainText
from pipelines.common.requests.text import Defaults, Result, TextRequest

PROMPTS: Final[Forms[Defaults, TextRequest, Result]] = Forms(
    "prompt", PlainText(), JsonRows(), Completions()
)
