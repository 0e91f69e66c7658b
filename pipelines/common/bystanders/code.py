"""What the code of a module says: which others it may import, whether it may change others."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Collection
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

_IMPORTING: Final = frozenset(
    (
        *("__import__", "import_module", "import_from", "resolve_name", "load_module", "exec"),
        *("exec_module", "spec_from_file_location", "find_spec", "iter_modules", "walk_packages"),
        *("entry_points", "run_path", "run_module", "__builtins__"),
    )
)
"""Functions that get at modules by values which the code does not show."""

_MACHINE_CODE: Final = tuple(EXTENSION_SUFFIXES)
"""Endings of files, of tens of megabytes in libraries, that are not searched for names."""

_HOLDING: Final = frozenset(("modules", "plugin", "record"))
"""Attributes that do: of `sys`, and of the registry's entries."""


def named_by(name: str, others: Collection[str], *, own: bool) -> set[str]:
    """Those of some modules that another module's code may import, at any time.

    Args:
        name: Whose code is searched.
        others: Those that are looked for.
        own: Whether the code is a user's or a plugin's. That of a library spells whole names, and
            knows no plugins that it would have to look for.
    """
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if not own and isinstance(file, str) and file.endswith(_MACHINE_CODE):
        return set()
    try:
        content = Path(file).read_bytes() if isinstance(file, str) else b""
    except OSError:  # it is gone, or in an archive
        return set(others) if own else set()
    part = -1 if own else 0
    mentioned = {each for each in others if each.split(".")[part].encode() in content}
    words = (_IMPORTING | _HOLDING) if own else ()
    if not mentioned and not any(word.encode() in content for word in words):
        return set()
    try:
        names, dynamic = _names_in(content, getattr(module, "__package__", None) or "")
    except (SyntaxError, ValueError):  # machine code
        return set(others) if own else set()
    return set(others) if dynamic and own else set(mentioned & names)


@functools.cache  # the same modules are asked about for every graph that is kept
def _names_in(content: bytes, package: str) -> tuple[frozenset[str], bool]:
    """All modules that code may import, and whether it may import others.

    Args:
        content: The code.
        package: The package that its module is in.

    Raises:
        SyntaxError: It is no code.
        ValueError: Nor is it text.
    """
    tree = ast.parse(content)
    names: set[str] = set()
    used: set[str] = set()
    held: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                base = _absolute(node, package)
                names.add(base)
                names.update(f"{base}.{alias.name}" for alias in node.names)
                held.update(alias.name for alias in node.names)
            case ast.Constant(value=str(text)):
                names.add(text.partition(":")[0])
            case ast.Name():
                used.add(node.id)
            case ast.Attribute():
                held.add(node.attr)
    for name in list(names):
        names |= parents(name)
    return frozenset(names), bool((used | held) & _IMPORTING or held & _HOLDING)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that is imported from; what is relative begins in the importing one's package."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    start = parts[: len(parts) - node.level + 1]
    return ".".join([*start, *([node.module] if node.module else [])])


def parents(name: str) -> set[str]:
    """The packages that a module is in."""
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}


def changes_others(name: str) -> bool:
    """Whether code of a module may change what is not its own."""
    file = getattr(sys.modules.get(name), "__file__", None)
    try:
        return _changes_others(Path(file).read_bytes() if isinstance(file, str) else b"")
    except (OSError, SyntaxError, ValueError):
        return True


@functools.cache
def _changes_others(content: bytes) -> bool:
    for node in ast.walk(ast.parse(content)):
        match node:
            case ast.Assign(targets=targets) | ast.Delete(targets=targets):
                changed = targets
            case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                changed = [target]
            case ast.Expr(value=ast.Call(func=ast.Attribute() as function)):
                changed = [function]
            # Called for what it does, since what it gives is not used.
            case ast.Expr(value=ast.Call()) | ast.Name(id="setattr" | "delattr"):
                return True
            case _:
                continue
        parts = (part for part in changed if isinstance(part, ast.Attribute | ast.Subscript))
        if not all(map(_own, parts)):
            return True
    return False


def _own(part: ast.expr) -> bool:
    """Whether it is a part of ``self`` or ``cls`` that is assigned to."""
    while isinstance(part, ast.Attribute | ast.Subscript):
        part = part.value
    return isinstance(part, ast.Name) and part.id in ("self", "cls")
