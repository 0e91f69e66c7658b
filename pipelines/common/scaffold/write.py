"""Writes the start of a plugin from a template, as a whole or not at all."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from pipelines.common.errors import UsageError
from pipelines.common.export.staging import new_folder
from pipelines.common.files import exists

KINDS: Final = ("pipeline", "op", "target", "task")
"""What can be begun, each from the templates in a folder of that name."""

_TEMPLATES: Final = Path(__file__).parent / "templates"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_TEST: Final = "test_plugin.py"


@dataclass(frozen=True)
class Start:
    """The start of a plugin.

    Attributes:
        kind: One of `KINDS`.
        name: What the pipeline, op package, target or task is called.
        into: The folder that its own is made in.
        package: Whether it is a distribution that can be installed, and not just a folder.
    """

    kind: str
    name: str
    into: Path
    package: bool = False

    @property
    def module(self) -> str:
        """What its module is called, and its folder."""
        return self.name.replace("-", "_")

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self.into / self.module

    def check(self, taken: Collection[str]) -> None:
        """Makes sure that it can be written, and be used then.

        Args:
            taken: Names that others of its kind have.

        Raises:
            UsageError: The name is none, or another's; or something is in the place of its folder.
        """
        if not _NAME.fullmatch(self.name) or keyword.iskeyword(self.module):
            raise UsageError(
                f"'{self.name}' is no name for a plugin; expected lower-case letters, digits, '-'"
                " and '_', a letter first, as my-model"
            )
        if self.name in taken:
            raise UsageError(f"there is a command or {self.kind} '{self.name}'; take another name")
        if exists(self.folder):
            raise UsageError(f"{self.folder} is there already; take another name, or delete it")
        if self.module in sys.stdlib_module_names or importlib.util.find_spec(self.module):
            raise UsageError(
                f"there is a Python module '{self.module}', which Python would take for the"
                " plugin's; take another name"
            )

    def write(self, command: str) -> list[Path]:
        """Writes it; returns the files.

        Args:
            command: What tries it, for its readers.

        Raises:
            UsageError: It cannot be written.
        """
        try:
            with new_folder(self.folder) as staging:
                for path, template in self._templates():
                    (staging / path).parent.mkdir(parents=True, exist_ok=True)
                    (staging / path).write_text(self._filled(template, command), encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"cannot write {self.folder}: {error.strerror or error}; name another folder"
            ) from error
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def _templates(self) -> Iterator[tuple[Path, Path]]:
        """Where each file goes in the folder, and what it is made from."""
        code, tests = (Path(self.module), Path("tests")) if self.package else (Path(), Path())
        for template in (_TEMPLATES / self.kind).iterdir():
            name = template.name.removesuffix(".tmpl")
            test = tests / f"test_{self.module}.py"
            yield test if name == _TEST else code / name, template
        if self.package:
            for template in (_TEMPLATES / "package").iterdir():
                yield Path(template.name.removesuffix(".tmpl")), template

    def _filled(self, template: Path, command: str) -> str:
        words = re.split("[_-]", self.name)
        title = " ".join(words)
        return Template(template.read_text(encoding="utf-8")).substitute(
            name=self.name,
            module=self.module,
            title=title[:1].upper() + title[1:],
            **{"class": "".join(word.capitalize() for word in words)},
            command=command,
            plugin=(
                f'Path(__file__).parents[1] / "{self.module}"'
                if self.package
                else "Path(__file__).parent"
            ),
        )
