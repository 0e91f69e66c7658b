"""What users and authors import is described: every public name, with each of its arguments."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from pipelines.common.registry import hookspecs

MODULES = ("pipelines", "pipelines.plugin", "pipelines.testing")
_ITEM = re.compile(r"^    \*{0,2}(\w+)(?: \(.*\))?: *\S", re.MULTILINE)


def public(name: str, module: ModuleType) -> Iterator[tuple[str, Any]]:
    """All public names of a module, those of modules among them included."""
    for each in module.__all__:
        value = getattr(module, each)
        if isinstance(value, ModuleType) and hasattr(value, "__all__"):
            yield from public(value.__name__, value)
        else:
            yield f"{name}.{each}", value


NAMES = dict(item for module in MODULES for item in public(module, importlib.import_module(module)))
NAMES |= {
    f"hook {name}": value for name, value in vars(hookspecs).items() if name.startswith("register_")
}


def section(text: str, *titles: str) -> set[str]:
    """The names that a docstring describes under a title."""
    found: set[str] = set()
    for title in titles:
        _, _, rest = f"{text}\n".partition(f"\n{title}:\n")
        body = re.split(r"\n(?=\S)", rest, maxsplit=1)[0]
        found |= set(_ITEM.findall(body))
    return found


def undescribed(value: Any) -> list[str]:
    """What of a function or class, and of its public methods, nothing is said of."""
    text = inspect.cleandoc(value.__doc__ or "")
    if not text:
        return ["no docstring"]
    if inspect.isfunction(value):
        return sorted(parameters(value) - section(text, "Args"))
    said = section(text, "Args", "Attributes")
    missing = sorted(made_of(value) - said - inherited(value))
    for name, member in vars(value).items():
        function = inspect.unwrap(getattr(member, "__func__", member))
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        if not function.__doc__:
            missing.append(f"{name}()")
    return missing


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "cls"}


def made_of(class_: type) -> set[str]:
    """The arguments that a class is called with."""
    if dataclasses.is_dataclass(class_):
        return {field.name for field in dataclasses.fields(class_) if field.init}
    if typing.is_typeddict(class_):
        return set(class_.__annotations__)
    own = vars(class_).get("__init__")
    return parameters(own) if own is not None else set()


def inherited(class_: type) -> set[str]:
    """What classes above have described."""
    above = (inspect.cleandoc(base.__doc__ or "") for base in class_.__mro__[1:])
    return {name for text in above for name in section(text, "Args", "Attributes")}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_described(name: str) -> None:
    value = NAMES[name]
    if inspect.isfunction(value) or inspect.isclass(value):
        assert undescribed(value) == []
    elif isinstance(value, ModuleType):
        assert value.__doc__
    else:
        assert has_docstring(*name.rpartition(".")[::2])


def has_docstring(module: str, constant: str) -> bool:
    """Whether a string follows a constant, in the module or where it imports that from."""
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    for node, after in itertools.pairwise(body):
        match node:
            case ast.ImportFrom(names=names) if constant in {alias.name for alias in names}:
                return has_docstring(node.module or "", constant)
            case (
                ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name))
            ) if name == constant:
                return isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    return False
