"""Where the user's cache is and how large it may become, as the environment says."""

from __future__ import annotations

import os
import re
import sys
from decimal import Decimal
from pathlib import Path

from pipelines.common.errors import CacheError, UsageError
from pipelines.common.files import folder_of_user

FOLDER_VARIABLE = "RUN_PIPELINE_CACHE"
LIMIT_VARIABLE = "RUN_PIPELINE_CACHE_LIMIT"

DEFAULT_LIMIT_BYTES = 32 << 30

_LARGEST = 1 << 62
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def folder() -> Path:
    """The folder of the user's cache.

    Raises:
        CacheError: There is no home directory to put it in.
    """
    stated = os.environ.get(FOLDER_VARIABLE)
    if not stated:
        return _of_user() / "pipeline-driver"
    try:
        return Path(stated).expanduser()
    except RuntimeError as error:
        raise CacheError(
            f"{FOLDER_VARIABLE} is {stated!r}, and there is no such home directory; name another"
            " folder"
        ) from error


def limit() -> int:
    """The bytes that it may hold.

    Raises:
        UsageError: What the environment says is not a size.
    """
    stated = os.environ.get(LIMIT_VARIABLE)
    return parse_size(stated) if stated else DEFAULT_LIMIT_BYTES


def parse_size(text: str) -> int:
    """Bytes that a size such as ``20G``, ``1.5T`` or ``500MiB`` stands for (powers of 1024).

    Raises:
        UsageError: It is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{LIMIT_VARIABLE} is {text!r}; expected a size such as 20G or 500M")
    return int(min(Decimal(match[1]) * (1 << _UNITS[match[2].upper()]), Decimal(_LARGEST)))


def _of_user() -> Path:
    """The folder for caches of all programs."""
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches"
        return folder_of_user("XDG_CACHE_HOME", ".cache")
    except RuntimeError as error:
        raise CacheError(
            f"there is no home directory to keep a cache in; name a folder with"
            f" {FOLDER_VARIABLE}=FOLDER"
        ) from error
