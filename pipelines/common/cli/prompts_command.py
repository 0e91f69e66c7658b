"""``prompts``: which prompts there are by name, and what they say."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.common.cli.named_prompts import menu, named_prompt, named_prompts, own_folder
from pipelines.common.cli.options import AsJson
from pipelines.common.cli.streams import print_json, print_lines


def prompts(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one as a whole.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the prompts that --prompt-name takes: those that ship with the project, and your own.

    Your own are files NAME.txt in ~/.config/pipeline-driver/prompts, or in the folder that
    RUN_PIPELINE_PROMPTS names.
    """
    if name is not None:
        prompt = named_prompt(name)
        if as_json:
            print_json({"name": name, "text": prompt.read(), "path": str(prompt.path)})
        else:
            print_lines(*prompt.read().split("\n"))
        return
    found = named_prompts()
    if as_json:
        rows = [
            {"name": each.name, "path": str(each.path), "own": each.own, "begins": each.preview()}
            for each in found.values()
        ]
        folder = own_folder()
        print_json({"folder": None if folder is None else str(folder), "prompts": rows})
        return
    print_lines(*menu(found))
