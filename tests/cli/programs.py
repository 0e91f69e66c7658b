"""Programs that run beside the test, whose output is looked at as it comes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"
COMMAND = [sys.executable, str(SCRIPT)]

_TIMEOUT_S = 60


class Output:
    """All that a program writes to a stream, of which nothing is lost by looking at its beginning.

    To read lines of a pipe and leave the rest to `Popen.communicate` loses what was read ahead.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
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
        while piece := os.read(self._pipe.fileno(), 1 << 16):
            with self._more:
                self._content += piece
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()


class Program:
    """A process with a pipe for each of its streams that is not connected otherwise.

    Attributes:
        process: The process.
        out: What it writes to stdout, if that is a pipe.
        err: What it writes to stderr, likewise.
    """

    def __init__(self, *args: object, **options: object) -> None:
        """Starts the program.

        Args:
            args: Of the command line.
            options: Of `Popen`.
        """
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen([*COMMAND, *map(str, args)], **pipes | options)
        self.out = Output(self.process.stdout) if self.process.stdout else None
        self.err = Output(self.process.stderr) if self.process.stderr else None

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str, str]:
        """The exit code and the whole output, when the program has ended."""
        if self.process.stdin:
            self.process.stdin.close()
        code = self.process.wait(_TIMEOUT_S)
        return code, *(stream.whole() if stream else "" for stream in (self.out, self.err))

    def kill(self) -> None:
        """Ends the program, if it has not ended."""
        self.process.kill()
        self.ended()
