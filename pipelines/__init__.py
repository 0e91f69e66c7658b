"""A pipeline driver for language models, and the pipelines that ship with it.

    import pipelines

    model = pipelines.load("llama3")
    for text in model.stream("Once upon a time", max_new_tokens=64):
        print(text, end="")

What it has is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pipelines.common.errors import PipelineError
    from pipelines.common.python.chat import Chat
    from pipelines.common.python.load import load
    from pipelines.common.python.model import Model, TokenLogprob
    from pipelines.common.python.settings import Settings
    from pipelines.common.python.stream import Stream
    from pipelines.common.requests.logprobs import Position, Scored
    from pipelines.common.requests.text import Result

__version__ = "0.1.0"

__all__ = [
    "Chat",
    "Model",
    "PipelineError",
    "Position",
    "Result",
    "Scored",
    "Settings",
    "Stream",
    "TokenLogprob",
    "load",
]

_LAZY: Final = {
    "Chat": "pipelines.common.python.chat",
    "Model": "pipelines.common.python.model",
    "PipelineError": "pipelines.common.errors",
    "Position": "pipelines.common.requests.logprobs",
    "Result": "pipelines.common.requests.text",
    "Scored": "pipelines.common.requests.logprobs",
    "Settings": "pipelines.common.python.settings",
    "Stream": "pipelines.common.python.stream",
    "TokenLogprob": "pipelines.common.python.model",
    "load": "pipelines.common.python.load",
}

if not TYPE_CHECKING:  # who checks types is told of names that there are not

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__} has no {name}; it has {', '.join(__all__)}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
