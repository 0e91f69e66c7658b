"""What ONNX Runtime says of a graph that others had a part in, as one line for the user.

Nodes that an op package's rule has made are named ``package/rule``, see
`pipelines.common.graph.rewrite`, and the runtime names nodes in most of its messages. A graph that
was read from an exported folder may be anything. What it says of others is a bug and stays as it
is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.common.errors import ModelFileError, PipelineError, TargetError, quoted
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.nn.interface import Interface
from pipelines.common.ort import failures, onnxruntime, said

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_UNKNOWN = re.compile(r"([\w.-]*):(\w+)\(-?\d+\) is not a registered function/op")
_RUNNING = re.compile(r"while running (\w+) node\. Name:'([^/']+)/.*?' Status Message: (.*)")
_NUMBERS = re.compile(r"tensor\((bool|float|double|u?int(8|16|32|64)|b?float16)\)")
_REFUSED = re.compile(r"ShapeInferenceError|TypeInferenceError|invalid model|Type Error")
"""What is said of nodes that do not fit together, whoever has made them."""
_SHARED_DOMAIN = "Domain already set in registry"
_SHOWN_RULES = 4
_MAKING = re.compile(r"Exception during initialization: (.*)")


@dataclass(frozen=True)
class Makers:
    """Who has made a graph, and so may be at fault when it fails.

    Attributes:
        packages: Names of the op packages whose rules made some of its nodes.
        libraries: The libraries of those among them that have kernels, by name.
        rules: The rules that made those, where the package is not the project's own, for messages.
        folder: The exported folder that it was read from; None if it was made here.
    """

    packages: frozenset[str] = frozenset()
    libraries: Mapping[str, Path] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    folder: Path | None = None

    @contextmanager
    def explain_session(self, graph: LoweredGraph) -> Iterator[None]:
        """Wherein the graph is compiled: what the runtime raises is explained where it can be.

        Raises:
            TargetError: An op package is at fault.
            ModelFileError: The folder is.
        """
        try:
            yield
        except _raised() as error:
            if explanation := self.of_session(error, graph):
                raise explanation from error
            raise

    @contextmanager
    def explain_run(self) -> Iterator[None]:
        """Wherein the graph is run, like `explain_session`."""
        try:
            yield
        # A bound run has none of the runtime's own classes.
        except (RuntimeError, UnicodeDecodeError) as error:
            if explanation := self.of_run(error):
                raise explanation from error
            raise

    def check_numbers(self, logits: NDArray[np.float32]) -> None:
        """Makes sure that logits can be chosen from, where foreign rules have a part in them.

        Where they have none, the weights are damaged, and whoever chooses says so.

        Args:
            logits: One row a sequence, or a single row.

        Raises:
            TargetError: They are no numbers.
        """
        if self.rules and not np.isfinite(logits.max(axis=-1)).all():  # a NaN is a maximum
            raise TargetError(
                f"the model computes logits that are no numbers; either {self._shown_rules()}"
                " is wrong, which 'run-pipeline ops"
                " check' tells, or the weights are damaged"
            )

    def check_interface(self, session: InferenceSession, interface: Interface) -> None:
        """Makes sure that a graph from a folder takes and gives what runners bind.

        Args:
            session: A session of it.
            interface: The network's.

        Raises:
            ModelFileError: It does not.
        """
        if self.folder is None:
            return
        halves = [half for names in interface.states.values() for half in names]
        types = {value.name: value.type for value in session.get_inputs()}
        outputs = {value.name for value in session.get_outputs()}
        for name in halves:
            if name not in types:
                raise self._of_folder(f"it has no input {name}")
        for name in (*interface.gives, *(f"new_{half}" for half in halves)):
            if name not in outputs:
                raise self._of_folder(f"it has no output {name}")
        for name, kind in types.items():
            if not _NUMBERS.fullmatch(kind):
                raise self._of_folder(f"its input {quoted(name)} is a {kind}")

    def of_session(self, error: Exception, graph: LoweredGraph) -> PipelineError | None:
        """Why a session cannot be made; None if nobody here is at fault."""
        message = said(error)
        if unknown := _UNKNOWN.search(message):
            domain, operator = unknown.groups()
            for node_name in _names(graph, domain, operator):
                package, _, rule = node_name.partition("/")
                if package in self.packages:
                    return TargetError(
                        f"nobody has operator {operator} of domain '{domain}', which rule '{rule}'"
                        f" of op package '{package}' asks for: neither ONNX Runtime nor the"
                        " package's library"
                    )
        for package in self.packages:
            if re.search(rf"[\"'(]{re.escape(package)}/", message):
                return TargetError(
                    f"ONNX Runtime refuses what op package '{package}' makes: {message}"
                )
        if _SHARED_DOMAIN in message and (pair := self._with_one_domain()):
            first, second = pair
            return TargetError(
                f"op packages '{first}' and '{second}' have kernels in one domain, which ONNX"
                " Runtime takes from one library only; run with one of them, or give the kernels of"
                " one another domain"
            )
        if self.libraries and (making := _MAKING.search(message)):
            by = " or ".join(f"'{name}'" for name in sorted(self.libraries))
            return TargetError(f"a kernel of op package {by} cannot be made: {making[1]}")
        if self.rules and _REFUSED.search(message):
            return TargetError(
                f"ONNX Runtime refuses the graph that {self._shown_rules()} has a part in:"
                f" {message}; it may be another's fault if it is so without the op package"
            )
        return None if self.folder is None else self._of_folder(message)

    def of_run(self, error: Exception) -> PipelineError | None:
        """Why a run failed; None if nobody here is at fault."""
        message = said(error)
        running = _RUNNING.search(message)
        if running is not None and running[2] in self.packages:
            operator, package, message = running.groups()
            return TargetError(f"operator {operator} of op package '{package}' failed: {message}")
        return None if self.folder is None else self._of_folder(message)

    def _shown_rules(self) -> str:
        shown = ", ".join(self.rules[:_SHOWN_RULES])
        more = len(self.rules) - _SHOWN_RULES
        return f"{shown}{f' or one of {more} more' if more > 0 else ''}"

    def _with_one_domain(self) -> tuple[str, str] | None:
        """Two packages that no session can have together."""
        for pair in combinations(self.libraries, 2):
            if _clash(*(self.libraries[name] for name in pair)):
                return pair
        return None

    def _of_folder(self, message: str) -> ModelFileError:
        return ModelFileError(
            f"ONNX Runtime refuses the graph of {self.folder}: {message}; export the model again"
        )


NOBODY = Makers()
"""Of a graph that is the project's own."""


def _raised() -> tuple[type[Exception], ...]:
    """What is raised where a session is made."""
    # The last where what the runtime has to say holds names that are no text.
    return (*failures(), RuntimeError, UnicodeDecodeError)


def _clash(first: Path, second: Path) -> bool:
    """Whether two libraries bring operators in one domain."""
    import onnx

    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([], "probe", [value], [value])
    opsets = [onnx.helper.make_opsetid("", 20)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime().SessionOptions()
    options.log_severity_level = 4
    try:
        for library in (first, second):
            options.register_custom_ops_library(str(library))
        onnxruntime().InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except failures() as error:
        return _SHARED_DOMAIN in str(error)
    return False


def _names(graph: LoweredGraph, domain: str, operator: str) -> list[str]:
    """Names of the nodes that are of an operator."""
    import onnx

    nodes = onnx.load_from_string(graph.model).graph.node
    return [node.name for node in nodes if (node.domain, node.op_type) == (domain, operator)]
