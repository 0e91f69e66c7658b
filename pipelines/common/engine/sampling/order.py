"""The samplers that ship with the project, and what users write to have others, or another order.

``penalties;top_k;mine(strength=0.5);temperature``: names between semicolons, as llama.cpp has it,
and in parentheses what the record of a plugin's sampler declares.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pipelines.common.engine.sampling.dry import dry
from pipelines.common.engine.sampling.min_p import min_p
from pipelines.common.engine.sampling.penalties import penalties
from pipelines.common.engine.sampling.sampler import Make
from pipelines.common.engine.sampling.temperature import temperature
from pipelines.common.engine.sampling.top_k import top_k
from pipelines.common.engine.sampling.top_n_sigma import top_n_sigma
from pipelines.common.engine.sampling.top_p import top_p
from pipelines.common.engine.sampling.typical import typ_p
from pipelines.common.engine.sampling.xtc import xtc
from pipelines.common.errors import ParameterError

SAMPLERS: Final[Mapping[str, Make]] = {
    "penalties": penalties,
    "dry": dry,
    "top_n_sigma": top_n_sigma,
    "top_k": top_k,
    "typ_p": typ_p,
    "top_p": top_p,
    "min_p": min_p,
    "xtc": xtc,
    "temperature": temperature,
}
"""What ships with the project, in the order that is llama.cpp's and the one by default."""

DEFAULT_ORDER: Final = ";".join(SAMPLERS)

_STAGE: Final = re.compile(r"(?P<name>[\w-]+)\s*(\((?P<settings>[^()]*)\))?")
_FORM: Final = "names between semicolons, as top_k;top_p;temperature"


@dataclass(frozen=True)
class Stage:
    """A sampler's place in the order.

    Attributes:
        name: Its name.
        make: Makes it.
        settings: Those that its record declares, with their values.
    """

    name: str
    make: Make = field(compare=False, repr=False)
    settings: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        settings = ",".join(f"{name}={value:g}" for name, value in self.settings)
        return f"{self.name}({settings})" if settings else self.name


Find = Callable[[str], tuple[Make, Mapping[str, float]]]
"""What a name stands for, and what can be set of it, with the values by default.

It raises a `UsageError` for a name that nothing has.
"""


def stages(text: str, find: Find) -> tuple[Stage, ...]:
    """The order that a text describes; none for an empty one.

    Args:
        text: Names between semicolons, each with settings in parentheses where it has any.
        find: Looks a name up.

    Raises:
        UsageError: It describes none.
    """
    parts = [part.strip() for part in text.split(";")]
    return tuple(_stage(part, find) for part in parts) if text.strip() else ()


def _stage(text: str, find: Find) -> Stage:
    match = _STAGE.fullmatch(text)
    if match is None:
        raise ParameterError("samplers", text, _FORM)
    make, defaults = find(match["name"])
    given = dict(_setting(match["name"], part, defaults) for part in _parts(match["settings"]))
    return Stage(match["name"], make, tuple({**defaults, **given}.items()))


def _parts(settings: str | None) -> list[str]:
    return settings.split(",") if settings and settings.strip() else []


def _setting(sampler: str, text: str, defaults: Mapping[str, float]) -> tuple[str, float]:
    name, _, value = (part.strip() for part in text.partition("="))
    if name not in defaults:
        known = ", ".join(defaults) or "it has none"
        raise ParameterError("samplers", f"{sampler}({text.strip()})", f"a setting of it: {known}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ParameterError("samplers", f"{sampler}({text.strip()})", f"{name}=NUMBER")
    return name, number


def shipped(name: str) -> tuple[Make, Mapping[str, float]]:
    """What a name stands for, of what ships with the project; see `Find`.

    Raises:
        ParameterError: Nothing has it.
    """
    if name not in SAMPLERS:
        raise ParameterError("samplers", name, f"names of {', '.join(SAMPLERS)}")
    return SAMPLERS[name], {}


DEFAULT: Final = stages(DEFAULT_ORDER, shipped)
