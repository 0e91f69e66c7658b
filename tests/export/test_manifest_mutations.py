"""Whatever a manifest says, what comes of it is a model or one line."""

from __future__ import annotations

import json
import random

import pytest
import tiny_models
from mutations import mutated

from pipelines.common.errors import PipelineError
from pipelines.common.export.write import export


@pytest.fixture(scope="module", params=["whole", "reference"])
def source(request, gguf_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutations") / "folder"
    model = tiny_models.open_model(gguf_file, encoding="auto")
    export(model, "cpu", folder, reference_weights=request.param == "reference")
    return folder


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_manifest_that_was_changed_at_random(source):
    """A model runs, or says in a line why not; more seeds find nothing else."""
    file = source / "manifest.json"
    manifest = json.loads(file.read_text())
    refused = 0
    for seed in range(60):
        file.write_text(json.dumps(mutated(manifest, random.Random(seed))))
        try:
            tiny_models.open_model(source).start(slots=1, max_length=8).prefill(0, [1, 2])
        except PipelineError as error:
            refused += 1
            assert error.exit_code == 1, seed  # nothing that the user typed is wrong
    assert 30 < refused < 60
