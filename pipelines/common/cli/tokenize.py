"""``tokenize``: text to token ids and pieces."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.options import AsJson, ModelPath, TokenizerPath
from pipelines.common.cli.prompt import read_stdin
from pipelines.common.cli.streams import print_json, print_lines, write_text
from pipelines.common.registry.opening import found


def tokenize(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Option(help="What to tokenize; stdin by default.")] = None,
    model_path: ModelPath = None,
    tokenizer_path: TokenizerPath = None,
    pipeline: Annotated[str, typer.Option(help="The pipeline that reads the model.")] = "llama3",
    no_special_tokens: Annotated[
        bool, typer.Option("--no-special-tokens", help="Take control tokens in the text as text.")
    ] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids alone, on one line.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the tokens of a text: ids and pieces."""
    from pipelines.common.text_generation import ModelOptions, TokenizerPipeline

    registry, progress = registry_of(ctx), ConsoleProgress()
    if model_path is not None:
        model_path = found(model_path, registry, progress)
    options = ModelOptions(model_path=model_path, tokenizer_path=tokenizer_path, encoding="auto")
    text = read_stdin("the text") if text is None else text
    opener = registry.load_pipeline(pipeline, "generate")
    if isinstance(opener, TokenizerPipeline):
        tokenizer = opener.open_tokenizer(options, registry, progress)
    else:
        tokenizer = opener.open(options, registry, progress).tokenizer
    tokens = tokenizer.encode(text, special=not no_special_tokens)
    if as_json:
        pieces = [tokenizer.piece(token) for token in tokens]
        print_json({"ids": tokens, "pieces": pieces}, indented=False)
    elif ids:
        write_text(f"{' '.join(map(str, tokens))}\n")
    else:
        print_lines(*(f"{token:>7}  {tokenizer.piece(token)}" for token in tokens))
