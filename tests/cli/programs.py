"""The program as tests run it: what came of it, or beside the test, looked at as it comes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import termios
import threading
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "run_pipeline.py"
COMMAND = [sys.executable, str(SCRIPT)]

VARIABLES = tuple(f"RUN_PIPELINE_{name}" for name in ("PLUGIN_PATH", "NO_PLUGIN", "STRICT_PLUGINS"))

_TIMEOUT_S = 60


class Output:
    """All that a program writes to a stream, of which nothing is lost by looking at its beginning.

    To read lines of a pipe and leave the rest to `Popen.communicate` loses what was read ahead.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._content = b""
        self._more = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for(self, text: str, count: int = 1) -> str:
        """What was written so far, as soon as `text` is in it `count` times."""

        def found() -> bool:
            return self._ended or self._content.count(text.encode()) >= count

        with self._more:
            assert self._more.wait_for(found, _TIMEOUT_S), f"no {text!r} in {self._content!r}"
            assert self._content.count(text.encode()) >= count, self._content
            return self._content.decode()

    def whole(self) -> str:
        """All that was written, when the stream has ended."""
        self._thread.join(_TIMEOUT_S)
        return self._content.decode()

    def _read(self) -> None:
        while piece := self._piece():
            with self._more:
                self._content += piece
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def _piece(self) -> bytes:
        try:
            return os.read(self._descriptor, 1 << 16)
        except OSError as error:  # how Linux tells that nobody else has a terminal open
            assert error.errno == errno.EIO
            return b""


class Program:
    """A program whose streams are pipes, unless they are a terminal or given otherwise.

    Attributes:
        process: The process.
        out: What it writes to stdout.
        err: What it writes to stderr.
        shown: What the terminal shows.
    """

    def __init__(self, *args: object, terminal: Collection[str] = (), **options: object) -> None:
        """Starts the program.

        Args:
            args: Of the command line.
            terminal: The streams that are a terminal: ``stdin``, ``stdout``, ``stderr``.
            options: Of `Popen`.
        """
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        if terminal:
            ours, theirs = os.openpty()
            termios.tcsetwinsize(theirs, (24, 80))
            streams |= dict.fromkeys(terminal, theirs)
        command = [*COMMAND, *map(str, args)]
        self.process = subprocess.Popen(command, **streams | options)
        if terminal:
            os.close(theirs)
            self.shown = Output(ours)
            self._terminal = ours
        self._outputs = {
            stream: Output(getattr(self.process, stream).fileno())
            for stream in ("stdout", "stderr")
            if getattr(self.process, stream)
        }

    @property
    def out(self) -> Output:
        return self._outputs["stdout"]

    @property
    def err(self) -> Output:
        return self._outputs["stderr"]

    def type(self, text: str) -> None:
        """Types text on the terminal."""
        os.write(self._terminal, text.encode())

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str, str]:
        """The exit code when the program has ended, and all that its pipes have had."""
        if self.process.stdin:
            self.process.stdin.close()
        code = self.process.wait(_TIMEOUT_S)
        out, err = (
            self._outputs[stream].whole() if stream in self._outputs else ""
            for stream in ("stdout", "stderr")
        )
        return code, out, err

    def kill(self) -> None:
        """Ends the program, if it has not ended."""
        self.process.kill()
        self.ended()
