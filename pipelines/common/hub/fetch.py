"""Fetches models of the hub, or finds them where they were fetched to before.

Cache, tokens, resuming and checksums are the `huggingface_hub` package's own, and so are its
variables: ``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.common.errors import DependencyError, HubError, one_line
from pipelines.common.hub.choice import Choice, choose
from pipelines.common.hub.names import PREFIX, HubName, hub_name


def located(
    path: Path,
    short_names: Mapping[str, str],
    notice: Callable[[str], None],
    *,
    offline: bool = False,
) -> Path:
    """Where a model is that a user has named: a path as it is, or a name of the hub.

    Args:
        path: What the user wrote, see `hub_name`.
        short_names: Names of models, by what they are called for short.
        notice: Told, in one line, what is fetched, and how much that is.
        offline: Whether nothing may be fetched.

    Raises:
        UsageError: It begins like a name of the hub and is none.
        HubError: There is no such model, or it cannot be fetched.
        DependencyError: The package is not installed.
    """
    name = hub_name(path, short_names)
    if name is None:
        return path
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"{name.typed} is no file or folder here; to get models of the hub by their names,"
            " install huggingface_hub"
        ) from error
    if offline or constants.HF_HUB_OFFLINE:
        return _cached(name)
    return _fetched(name, notice)


def _cached(name: HubName) -> Path:
    """A model as it was fetched before.

    Raises:
        HubError: It was not.
    """
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        repos = frozenset()
    there_are = [rev for repo in repos if repo.repo_id == name.repo for rev in repo.revisions]
    if not there_are:
        raise HubError(
            f"{name.repo} was not fetched before, and nothing may be fetched now; leave out"
            " `offline=True` and HF_HUB_OFFLINE once"
        )
    folder = max(there_are, key=lambda revision: revision.last_modified).snapshot_path
    there = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    return _in(folder, choose(name, there))


def _fetched(name: HubName, notice: Callable[[str], None]) -> Path:
    """A model, of which nothing is fetched that is there already.

    Raises:
        HubError: There is none of that name, or it cannot be fetched.
    """
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache

    with _told(name):
        info = HfApi().model_info(name.repo, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        choice = choose(name, sizes)
        lacking = [
            file
            for file in choice.files
            if not isinstance(try_to_load_from_cache(name.repo, file, revision=info.sha), str)
        ]
        if lacking:
            nbytes = sum(sizes[file] for file in lacking)
            _check_room(name, nbytes)
            files = "1 file" if len(lacking) == 1 else f"{len(lacking)} files"
            notice(f"getting {name.repo} from the hub: {files}, {nbytes / 1e9:.2f} GB")
        folder = snapshot_download(name.repo, revision=info.sha, allow_patterns=choice.files)
    return _in(Path(folder), choice)


def _in(folder: Path, choice: Choice) -> Path:
    return folder / choice.model if choice.model else folder


def _check_room(name: HubName, nbytes: int) -> None:
    """Checks that there is room for what is fetched.

    Raises:
        HubError: There is not.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    if free < nbytes:
        raise HubError(
            f"{name.repo} takes {nbytes / 1e9:.2f} GB, and {folder} has {free / 1e9:.2f} GB left;"
            " make room there, or set HF_HOME"
        )


@contextmanager
def _told(name: HubName) -> Iterator[None]:
    """Wherein what the package raises becomes one line."""
    from huggingface_hub import constants, errors

    said = name.typed.startswith(PREFIX)
    neither = "" if said else f"; nor is there a file or folder {name.typed} here"
    # That of the library that speaks HTTP, which is another one in other versions.
    unreached: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"{name.repo} is gated: accept its terms at {constants.ENDPOINT}/{name.repo}, and log"
            " in with 'hf auth login' or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"the hub has no model {name.repo}, or it is private and HF_TOKEN is not of who may"
            f" read it{neither}"
        ) from error
    except errors.HfHubHTTPError as error:
        raise HubError(
            f"the hub answers otherwise than it should for {name.repo}: {_first_line(error)}"
        ) from error
    except (unreached, errors.LocalEntryNotFoundError) as error:
        raise HubError(
            f"{name.repo} cannot be fetched: {constants.ENDPOINT} is not reached"
            f" ({_first_line(error)}); what was fetched before runs with `offline=True`{neither}"
        ) from error
    except OSError as error:
        full = "; make room there, or set HF_HOME" if error.errno == errno.ENOSPC else ""
        raise HubError(
            f"{name.repo} cannot be fetched to {constants.HF_HUB_CACHE}: {one_line(error)}{full}"
        ) from error


def _first_line(error: Any) -> str:
    return one_line(error).partition("  ")[0][:200]
