"""Whose models run with the op packages of a plugin: its own, unless it or the user says more."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops_program import program
from tiny_models import llama, write_gguf

PLUGIN = """
from pathlib import Path
from pipelines.plugin import OpPackageRecord, decoder, hookimpl

@hookimpl
def register_pipelines():
    return [
        decoder("mine", "M.", architectures=("llama",), network="pipelines.llama3.model:build")
    ]

@hookimpl
def register_op_packages():
    path = Path(__file__).with_name("silu.py")
    return [OpPackageRecord("mine_silu", "SiLU.", path, everywhere={everywhere})]
"""

PACKAGE = """
from pipelines.plugin import OpPackage, Rule, patterns

PACKAGE = OpPackage(
    "SiLU.", {"cpu": [Rule("mine", patterns.silu, lambda op, x: op.Mul(x, op.Sigmoid(x)))]}
)
"""

OTHER = PLUGIN.replace('"mine"', '"other"').partition("@hookimpl\ndef register_op")[0]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("model") / "model.gguf", llama())


@pytest.mark.parametrize(
    ("pipeline", "everywhere", "named", "taken"),
    [
        ("mine", False, [], True),
        ("llama3", False, [], False),
        ("other", False, [], False),
        ("llama3", True, [], True),
        ("other", True, [], True),
        ("llama3", False, ["--custom-ops-path", "mine_silu"], True),
    ],
)
def test_whose_models_run_with_it(
    model_file: Path, tmp_path: Path, pipeline: str, everywhere: bool, named: list[str], taken: bool
) -> None:
    plugin, other = tmp_path / "mine.py", tmp_path / "other.py"
    plugin.write_text(PLUGIN.format(everywhere=everywhere))
    other.write_text(OTHER)
    (tmp_path / "silu.py").write_text(PACKAGE)
    done = program(
        *("--plugin-path", plugin, "--plugin-path", other, pipeline, "--model-path", model_file),
        *("--target", "cpu", "--no-native-ops", "--quantization-encoding", "float32", *named),
        *("--prompt", "th", "--max-new-tokens", 2, "--verbose"),
    )
    assert done.code == 0, done.err
    assert ("mine_silu: mine took " in done.err) == taken


def test_a_pipeline_that_another_plugin_has_taken_over(model_file: Path, tmp_path: Path) -> None:
    """What is called like it is another network."""
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.format(everywhere=False).replace('"mine"', '"llama3"'))
    (tmp_path / "silu.py").write_text(PACKAGE)
    for left_out, taken in (([], True), (["--no-plugin", "mine"], False)):
        done = program(
            *("--plugin-path", plugin, *left_out, "llama3"),
            *("--model-path", model_file, "--target", "cpu", "--no-native-ops"),
            *("--quantization-encoding", "float32", "--prompt", "th", "--verbose"),
            *("--max-new-tokens", 2),
        )
        assert ("mine_silu: mine took " in done.err) == taken
