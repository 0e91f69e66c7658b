"""What is said in a conversation, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

Role: TypeAlias = Literal["system", "user", "assistant"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        role: Whose it is.
        content: Its text.
    """

    role: Role
    content: str


Messages: TypeAlias = tuple[Message, ...]


def question(text: str, system: str | None = None) -> Messages:
    """The conversation that begins with a user's message.

    Args:
        text: The message.
        system: What the model is told before it; None for nothing.
    """
    first = () if system is None else (Message("system", system),)
    return (*first, Message("user", text))


def characters(messages: Sequence[Message]) -> int:
    """Characters of all contents together."""
    return sum(len(message.content) for message in messages)
