"""What a model suggests for its replies, where nobody asks for anything else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from pipelines.common.requests.fields import check_offered, read_sampling
from pipelines.common.requests.text import Defaults
from pipelines.common.requests.values import RequestError, shown


def as_suggested(
    defaults: Defaults,
    suggested: Mapping[str, Any],
    asked: Collection[str],
    notice: Callable[[str], None],
) -> Defaults:
    """What holds for replies of a model.

    Args:
        defaults: What does without its suggestions.
        suggested: Those, see `ChatSettings.sampling`.
        asked: Names of the settings that the user has set, which stay.
        notice: Told which of them have a part, and, in a line each, which are no settings.
    """
    applied = []
    for name in sorted(suggested.keys() - {*asked}):
        fields = {name: suggested[name]}
        try:
            check_offered(fields)
            sampling = read_sampling(fields, defaults)
        except RequestError as error:
            notice(f"the model suggests what is left out: {error}")
            continue
        if sampling != defaults.sampling:
            applied.append(f"`{name}` {shown(suggested[name])}")
            defaults = replace(defaults, sampling=sampling)
    if applied:
        notice(f"replies are chosen as the model suggests: {', '.join(applied)}")
    return defaults
