"""How long-running work reports: timed phases, notices, and detail for those who ask for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class Progress:
    """Collects phase timings; a front end subclasses it to show them.

    Attributes:
        seconds: Wall-clock seconds by phase name (``build``, ``lower``, ``compile``, ``load``),
            summed when a phase runs more than once.
        from_cache: Names of the phases whose result was read from the cache.
        verbose: Whether details are shown.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self.verbose = verbose
        self.seconds: dict[str, float] = {}
        self.from_cache: set[str] = set()

    @contextmanager
    def phase(self, name: str, description: str) -> Iterator[None]:
        """Times the block under `name`; `description` says what is being done."""
        start = time.perf_counter()
        try:
            with self.shown(description):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def shown(self, description: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Shows that `description` is going on; a front end overrides it."""
        return nullcontext()

    def counted(
        self,
        description: str,  # noqa: ARG002 - a front end shows it
        total: int,  # noqa: ARG002 - likewise
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Shows how far what goes on has come; a front end overrides it.

        Args:
            description: What it is.
            total: Bytes there are to do.

        Returns:
            A context with what is told of the bytes that were done since it was told last, from
            any thread.
        """
        return nullcontext(lambda _: None)

    def notice(self, message: str) -> None:
        """Tells the user one thing worth knowing, in one line; a front end says it once."""

    def detail(self, message: str) -> None:
        """Tells what is shown only to those who ask for details."""
