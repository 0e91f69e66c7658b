"""The messages of a conversation in JSON, as OpenAI has them.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipelines.common.chat.messages import ROLES, Message, Messages, Role
from pipelines.common.requests.values import RequestError, shown

_SAME_ROLES: Final[Mapping[str, Role]] = {role: role for role in ROLES} | {"developer": "system"}
"""What each role is here; OpenAI's newer models call the system so."""

_HARMLESS: Final = frozenset({"annotations", "id"})
"""Fields of a message that say nothing to the model."""


def read_messages(value: Any) -> Messages:
    """The conversation that a JSON value describes.

    Raises:
        RequestError: It is none: no list, an unknown role, contents that are no text, or nothing
            to reply to.
    """
    if not isinstance(value, list) or not value:
        raise RequestError(
            f'messages is {shown(value)}; expected a list of {{"role": ..., "content": ...}}'
        )
    return tuple(_message(each, f"messages[{number}]") for number, each in enumerate(value))


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, dict):
        raise RequestError(f'{name} is {shown(value)}; expected {{"role": ..., "content": ...}}')
    role = value.get("role")
    if not isinstance(role, str) or role not in _SAME_ROLES:
        raise RequestError(f"{name}.role is {shown(role)}; expected one of {', '.join(ROLES)}")
    for field, given in value.items():
        if field not in {"role", "content", *_HARMLESS} and given not in (None, [], ""):
            raise RequestError(
                f"{name}.{field} is {shown(given)}, which is not offered; expected role and content"
            )
    return Message(_SAME_ROLES[role], _content(value.get("content"), f"{name}.content"))


def _content(value: Any, name: str) -> str:
    """A text, or a list of parts that are texts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RequestError(f"{name} is {shown(value)}; expected a text")
    texts = []
    for number, part in enumerate(value):
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": str(kind)} if kind != "text":
                raise RequestError(
                    f"{name}[{number}] is of type {shown(kind)}, which no model here can look at;"
                    ' expected "text"'
                )
            case _:
                raise RequestError(
                    f'{name}[{number}] is {shown(part)}; expected {{"type": "text", "text": ...}}'
                )
    return "".join(texts)
