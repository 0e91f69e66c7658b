"""Serves this project to `benchmarks.compare`, see `benchmarks.engine`."""

from __future__ import annotations

from benchmarks.engine import read_setup, serve
from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.decoder.pipeline import DecoderModel
from pipelines.common.registry import Registry
from pipelines.common.text_generation import ModelOptions


def main() -> None:
    """Opens the model, serves it."""
    setup = read_setup()
    registry = Registry.discover()
    options = ModelOptions(
        model_path=setup.model,
        encoding="auto",
        threads=setup.threads,
        native_ops=setup.native_ops,
    )
    model = registry.load_pipeline("llama3").open(options, registry, ConsoleProgress())
    assert isinstance(model, DecoderModel)
    operators = "native operators" if model.describe()["op_packages"] else "stock operators"
    serve(
        {operators: lambda: model.start(slots=setup.slots, max_length=setup.max_length)},
        model.config.vocabulary,
        setup.slots,
    )


if __name__ == "__main__":
    main()
