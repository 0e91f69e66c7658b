"""What a user can get wrong: one line each, with the exit code it ends the program with.

Anything that is not a `PipelineError` is a bug and keeps its traceback.

Messages and notices name settings as Python does, in backquotes: "raise `max_length`", or with the
value that is meant, "leave out `offline=True`". A front end that has other names for them puts
those in their place, as `pipelines.common.cli.wording` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_LISTED: Final = 5
"""Names of a list that a message has room for."""


class PipelineError(Exception):
    """One line that says what was given, what was expected and what to do."""

    exit_code = 1


class UsageError(PipelineError):
    """A wrong option or argument."""

    exit_code = 2


class ParameterError(UsageError):
    """A setting of another type than it has to be, or out of its range.

    Attributes:
        name: The setting, as the function or the class that takes it has it.
        value: What was given.
        expected: What would have been right.
    """

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"`{name}` is {value!r}; expected {expected}")
        self.name = name
        self.value = value
        self.expected = expected


class ModelFileError(PipelineError):
    """A model file that is missing, malformed, contradictory or of an unsupported kind."""


class HubError(PipelineError):
    """A model of the hub that is not there, or cannot be fetched."""


class TokenizerError(PipelineError):
    """A tokenizer that cannot be built, or does not belong to the model."""


class PromptError(PipelineError):
    """A prompt that is empty, not text, or longer than the context."""


class TooLongError(PromptError):
    """A prompt that leaves no room for output."""


class TemplateError(PromptError):
    """A chat template that is missing, or none, or too large: nothing makes prompts of messages."""


class BatchError(PipelineError):
    """Prompts that cannot be read, or results that cannot be written or taken up again."""


class OutputError(PipelineError):
    """Standard output that cannot be written to."""


class ReaderGoneError(OutputError):
    """Standard output is a pipe that nobody reads any more, which ends the program silently."""


class MemoryLimitError(PipelineError):
    """More memory needed than this machine or container has to give.

    Attributes:
        needed: Bytes that are needed.
        available: Bytes that there are.
        slots: How many slots there would be memory for.
    """

    def __init__(self, message: str, *, needed: int, available: int, slots: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available
        self.slots = slots


class CacheError(PipelineError):
    """A cache folder that cannot be read, written or cleared."""


class OfflineError(PipelineError):
    """Something would have to be made that was to be in the cache already."""


class ExportError(PipelineError):
    """A folder that cannot be exported to."""


class PluginError(PipelineError):
    """A plugin that fails to load, or two that claim one name."""


class DependencyError(PipelineError):
    """A package that this project runs on is missing, or of a version that will not do."""


class SystemLimitError(PipelineError):
    """The system has no more of something to give: memory, open files, threads."""


class OpPackageError(PipelineError):
    """A custom op package that cannot be used: not one, broken, built for another machine."""


class LoweringError(PipelineError):
    """A graph that cannot be lowered for the target asked for."""


class NoRuleError(LoweringError):
    """An operator that no rule takes.

    Attributes:
        operator: Its name.
    """

    def __init__(self, message: str, operator: str) -> None:
        super().__init__(message)
        self.operator = operator


class TargetError(PipelineError):
    """A target that is not here or does not run what it was given."""


def one_line(error: BaseException) -> str:
    """What code of strangers raised, for a message."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def quoted(text: str) -> str:
    """Text from a file as it may stand in a message: one line, of bounded length, no backquotes."""
    # Between those a front end would take it for a setting.
    return repr(text if len(text) <= 80 else f"{text[:77]}...").replace("`", r"\x60")


def listed(items: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    distinct = list(dict.fromkeys(items))  # tied weights name one tensor twice
    rest = len(distinct) - _LISTED
    return ", ".join(distinct[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
