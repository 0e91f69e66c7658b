"""A folder that an export leaves opens, or the export says why there is none."""

from __future__ import annotations

import dataclasses

import pytest
import tiny_models

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.mixture import MixtureConfig
from pipelines.common.errors import ExportError
from pipelines.common.export.write import export


@dataclasses.dataclass(frozen=True)
class Wider(MixtureConfig):
    """The dimensions of a network that has one more than folders know."""

    window: int = 0


@pytest.fixture
def opened(gguf_file):
    return tiny_models.open_model(gguf_file, encoding="auto")


def test_a_config_with_a_field_that_folders_do_not_keep(opened, tmp_path):
    wider = Wider(**dataclasses.asdict(opened.config), window=16)
    model = dataclasses.replace(opened, config=wider)
    with pytest.raises(ExportError) as error:
        export(model, "cpu", tmp_path / "out", reference_weights=False)
    assert str(error.value) == (
        "this model cannot be exported; what was written could not be opened:"
        f" {tmp_path}/out/manifest.json cannot be used: config.window is not known"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [0, 0.0, None, False])
def test_what_may_be_left_out_of_a_config_may_be_nothing(value):
    extra = [("extra", type(value), dataclasses.field(default=value))]
    config = dataclasses.make_dataclass("Config", extra, bases=(DecoderConfig,), frozen=True)
    sizes = {field.name: 2 for field in dataclasses.fields(DecoderConfig)}
    assert list(config(**sizes).problems()) == []
    (problem,) = config(**{**sizes, "layers": 0}).problems()
    assert problem == "layers is 0, expected a positive 32-bit number"
