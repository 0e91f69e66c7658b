"""Questions of multiple choice in JSON Lines, as HellaSwag has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.common.errors import PromptError
from pipelines.common.measure.choices import Question
from pipelines.common.requests.fields import check_text, load_object
from pipelines.common.requests.values import RequestError, shown


def read_questions(text: str, source: str) -> Iterator[tuple[int, Question]]:
    """The questions of a text, an object a line, with the numbers of their lines.

    An object has ``ctx``, a text, ``endings``, a list of texts, and ``label``, the place of the
    right one; other fields have no effect.

    Args:
        text: The lines; empty ones are passed over.
        source: What messages call it.

    Raises:
        PromptError: A line is none, or there are none.
    """
    found = False
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        found = True
        try:
            fields = load_object(line, "the line")
            check_text(fields)
            yield number, _question(fields)
        except RequestError as error:
            raise PromptError(f"{source}, line {number}: {error}") from error
    if not found:
        raise PromptError(f"{source} holds no questions; expected a JSON object a line")


def _question(fields: Mapping[str, Any]) -> Question:
    """The question that an object describes.

    Raises:
        RequestError: A field is missing, or is of another type or out of its range.
    """
    for name in ("ctx", "endings", "label"):
        if name not in fields:
            raise RequestError(f"there is no {name}; expected ctx, endings and label")
    context, endings, label = fields["ctx"], fields["endings"], fields["label"]
    if not _is_text(context):
        raise RequestError(f"ctx is {shown(context)}; expected a text that is not empty")
    if not isinstance(endings, list) or len(endings) < 2 or not all(map(_is_text, endings)):
        raise RequestError(
            f"endings is {shown(endings)}; expected a list of two texts or more, none of them empty"
        )
    place = int(label) if isinstance(label, str) and label.isdecimal() else label
    if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(endings):
        raise RequestError(
            f"label is {shown(label)}; expected the place of the right ending, from 0 to"
            f" {len(endings) - 1}"
        )
    return Question(context.strip(), tuple(ending.strip() for ending in endings), place)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
