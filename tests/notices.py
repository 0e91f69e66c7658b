"""Progress that keeps what the user is told."""

from __future__ import annotations

from pipelines.common.progress import Progress


class Notices(Progress):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def notice(self, message: str) -> None:
        self.messages.append(message)
