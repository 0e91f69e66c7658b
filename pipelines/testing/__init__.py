"""What authors of plugins test with; it needs no test runner.

A `Subject` is a pipeline with random weights. `pipeline_checks` and `target_checks` are all that
`run-pipeline check` does; each is a function that raises, so that a test of pytest is one line:

    SUBJECT = Subject.of("mine", Path(__file__).parents[1])

    @pytest.mark.parametrize("check", pipeline_checks(SUBJECT), ids=str)
    def test_check(check):
        check()

`check_twin` compares with a model of the `transformers` library.
"""

from pipelines.common.checkpoints.gguf.write import write_gguf
from pipelines.common.checkpoints.random import RandomWeights, random_values
from pipelines.common.pipeline_check.backends import (
    NATIVE_CPU,
    STAND_INS,
    STOCK_CPU,
    Backend,
    backends,
)
from pipelines.common.pipeline_check.checks import (
    check_batches,
    check_cached,
    check_encoding,
    check_export,
    check_file,
    check_graph,
    check_logits,
    check_metadata,
    check_steps,
    check_stored,
    check_texts,
    check_variety,
    pipeline_checks,
    target_checks,
)
from pipelines.common.pipeline_check.compare import near, relative_error
from pipelines.common.pipeline_check.op_checks import check_op_package, check_op_package_in
from pipelines.common.pipeline_check.outcome import (
    Check,
    CheckFailedError,
    CheckSkippedError,
    require,
)
from pipelines.common.pipeline_check.plugin_module import check_module
from pipelines.common.pipeline_check.stand_ins import on_coreml, on_cuda
from pipelines.common.pipeline_check.subject import Subject, Told
from pipelines.common.registry.registry import Registry
from pipelines.testing.twin import check_twin, gguf_names, load_twin, twin_numbers

__all__ = [
    "NATIVE_CPU",
    "STAND_INS",
    "STOCK_CPU",
    "Backend",
    "Check",
    "CheckFailedError",
    "CheckSkippedError",
    "RandomWeights",
    "Registry",
    "Subject",
    "Told",
    "backends",
    "check_batches",
    "check_cached",
    "check_encoding",
    "check_export",
    "check_file",
    "check_graph",
    "check_logits",
    "check_metadata",
    "check_module",
    "check_op_package",
    "check_op_package_in",
    "check_steps",
    "check_stored",
    "check_texts",
    "check_twin",
    "check_variety",
    "gguf_names",
    "load_twin",
    "near",
    "on_coreml",
    "on_cuda",
    "pipeline_checks",
    "random_values",
    "relative_error",
    "require",
    "target_checks",
    "twin_numbers",
    "write_gguf",
]
