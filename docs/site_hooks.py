"""Has MkDocs take the documents from where they lie in the repository.

The site has the repository's folders, so that links between documents are right in both. A link to
what is in the repository and not in the site, such as a module, becomes its text; one to what is
nowhere stays, and fails a strict build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "docs/**/*.md", "docs/**/*.svg", "*/README.md")

_ROW = re.compile(r"^\|.*$", re.MULTILINE)
_CODE = re.compile(r"`[^`]*`")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The documents, and what the theme adds, in the place of what is in ``docs``."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in sorted({path for pattern in DOCUMENTS for path in ROOT.glob(pattern)}):
        place = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """A document whose links lead to the site, or are none."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join(folder, link[2]))
        if files.get_file_from_path(place) is not None or not (ROOT / place).exists():
            return link[0]
        return link[1]

    return _LINK.sub(replaced, _ROW.sub(_without_escapes, markdown))


def _without_escapes(row: re.Match[str]) -> str:
    r"""A row of a table whose code has `|` for `\|`: on GitHub that needs the escape, here not."""
    return _CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0])
