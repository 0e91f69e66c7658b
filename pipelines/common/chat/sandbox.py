"""The environment that chat templates run in: Hugging Face's, and bounded.

What a template finds here is what `transformers` gives it (``utils/chat_template_utils.py``), but
for filters that no chat has a use for. Whatever it does is charged for first, see `meter`: nodes of
its syntax tree that make or look at values are wrapped in filters that do so, and calls, operators
and filters pass through the environment in any case.
"""

from __future__ import annotations

import functools
import json
import string
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any, Final

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Cycler, Joiner, Namespace, _PassArg
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from pipelines.common.chat.meter import CALL, LimitError, Meter
from pipelines.common.chat.prices import (
    LAZY,
    METHODS,
    OPERATORS,
    SHALLOW,
    charge_field,
    charge_filter,
    charge_method,
)

# Names that no template can write.
_CHARGED: Final = "charged value"
_COUNTED: Final = "counted loop"
_JOINED: Final = "joined texts"

_NOT_OFFERED: Final = ("pprint", "random", "urlize", "wordwrap", "xmlattr")
"""Filters of Jinja's that are slow, or a matter of chance, and of no use in a chat."""


_MOST_NODES: Final = 10_000
"""Of a syntax tree. Jinja takes 0.1 ms for each; the largest of models have some 3,000."""

_LONGEST_DATE: Final = 1000
"""Characters of a form of dates and times."""


class TemplateRefusal(TemplateError):  # noqa: N818 - it is the template's, not an error of ours
    """What a template says of a conversation by ``raise_exception``."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles and runs chat templates.

    Attributes:
        meter: What the rendering that goes on may still do.
    """

    intercepted_binops = frozenset(OPERATORS)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            cache_size=0,
            extensions=[_Generation, loopcontrols],
        )
        self.meter = Meter()
        for name in _NOT_OFFERED:
            del self.filters[name]
        del self.globals["lipsum"]
        self.globals |= {
            "dict": _Dict(),
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }
        self.filters["tojson"] = _tojson
        self._functions = frozenset(self.globals.values())
        for name, function in self.filters.items():
            self.filters[name] = self._metered(name, function)
        self.filters[_CHARGED] = pass_context(lambda _, value: self.meter.charged(value))
        self.filters[_COUNTED] = pass_context(lambda _, values: self.meter.counted(values))
        self.filters[_JOINED] = pass_context(lambda _, texts: "".join(map(str, texts)))

    def compiled(self, source: str) -> Callable[..., Any]:
        """A template, compiled to the function that renders it.

        Raises:
            LimitError: It is too large.
            jinja2.TemplateSyntaxError: It is none.
            Exception: Whatever Jinja and Python make of one that is nested too deep.
        """
        tree = self.parse(source)
        if sum(1 for _ in tree.find_all(nodes.Node)) > _MOST_NODES:
            raise LimitError(f"it has more than {_MOST_NODES:,} parts")
        _Metering().visit(tree)
        code = self.compile(tree)
        return self.template_class.from_code(self, code, self.make_globals(None)).generate

    def call(
        __self,  # noqa: N805
        __context: Context,
        __obj: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Calls an object from a template."""
        self, called, arguments = __self, __obj, (*args, *kwargs.values())
        self.meter.charge(CALL)
        self.meter.charged(arguments)
        owner = getattr(called, "__self__", None)
        if isinstance(called, LoopContext):  # a recursive loop goes down, which takes longer
            self.meter.charge(8 * CALL)
            args = tuple(map(self.meter.counted, args))
        elif isinstance(called, BuiltinMethodType | MethodType) and _is_value(owner):
            if called.__name__ not in METHODS:
                raise SecurityError(f"the method {called.__name__} is not offered")
            args = tuple(map(self.meter.listed, args))
            charge_method(self.meter, called.__name__, owner, (*args, *kwargs.values()))
        elif not (
            isinstance(called, Macro | BlockReference | Undefined | Joiner | _Format)
            or isinstance(owner, LoopContext | Cycler)
            or (isinstance(called, FunctionType | type | _Dict) and called in self._functions)
        ):
            raise SecurityError(f"{type(called).__name__} objects cannot be called")
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Does an operator's work, after charging for it."""
        OPERATORS[operator](self.meter, left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """The stand-in of ``str.format``."""
        if super().wrap_str_format(value) is None:
            return None
        if value.__name__ == "format" and type(value.__self__) is str:
            return _Format(self, value.__self__)
        raise SecurityError(f"the method {value.__name__} is not offered here")

    def _metered(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that charges before it is applied; nothing of it is done at compile time."""
        wanted = _PassArg.from_obj(function)

        @pass_context
        @functools.wraps(function, assigned=())
        def metered(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
            self.meter.charge(CALL)
            if name not in LAZY:
                value = self.meter.listed(value)
            charge_filter(self.meter, name, value, (*args, *kwargs.values()))
            first: tuple[Any, ...] = ()
            if wanted is not None:
                passed = {
                    _PassArg.context: context,
                    _PassArg.eval_context: context.eval_ctx,
                    _PassArg.environment: self,
                }
                first = (passed[wanted],)
            made = function(*first, value, *args, **kwargs)
            return made if name in SHALLOW else self.meter.charged(made)

        return metered


class _Metering(NodeTransformer):
    """Wraps what makes values, or looks at all of them, in filters that charge."""

    def visit_Output(self, node: nodes.Output) -> nodes.Output:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [_filtered(each, _CHARGED) for each in node.nodes]
        return node

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _COUNTED)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        texts = nodes.List(node.nodes, lineno=node.lineno)
        assert node.environment is not None
        texts.set_environment(node.environment)
        return _filtered(_filtered(texts, _CHARGED), _JOINED)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        self.generic_visit(node)
        node.expr = _looked_at(node.expr)
        for operand in node.ops:
            operand.expr = _looked_at(operand.expr)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Test:  # noqa: N802
        self.generic_visit(node)
        if node.args:
            node.node = _looked_at(node.node)
            node.args = [_looked_at(each) for each in node.args]
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _looked_at(node.node)
        else:
            node.arg = _looked_at(node.arg)
        return node

    def _made(self, node: nodes.Expr) -> nodes.Expr:
        self.generic_visit(node)
        # What is assigned to is written as a tuple, too.
        return node if getattr(node, "ctx", "load") != "load" else _filtered(node, _CHARGED)

    visit_List = visit_Tuple = visit_Dict = _made  # noqa: N815


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    made = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    assert node.environment is not None
    made.set_environment(node.environment)
    return made


def _looked_at(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _filtered(node, _CHARGED)


def _is_value(owner: Any) -> bool:
    return type(owner) in (str, list, dict, tuple, Markup)


class _Format:
    """``str.format`` of a text."""

    def __init__(self, environment: Sandbox, text: str) -> None:
        self._formatter = _Formatter(environment)
        self._text = text

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        return self._formatter.vformat(self._text, args, kwargs)


class _Formatter(SandboxedFormatter, string.Formatter):
    """Charges for each field."""

    _env: Sandbox

    def convert_field(self, value: Any, conversion: Any) -> Any:
        charge_field(self._env.meter, value, "")
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> Any:
        charge_field(self._env.meter, value, format_spec)
        return super().format_field(value, format_spec)


class _Generation(Extension):
    """``{% generation %}``, which marks what the model has said; that makes no difference here."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Dict:
    """``dict``, without what else its class has."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


class _Namespace(Namespace):
    """A namespace without names of Python's own, and in no other value."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *pairs = args
        Namespace.__init__(self)
        for name, value in dict(*pairs, **kwargs).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace cannot have the name {name!r}")
        if isinstance(value, Namespace):
            raise LimitError("it puts a namespace into something else")
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _raise_exception(message: Any) -> None:
    raise TemplateRefusal(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > _LONGEST_DATE:
        raise LimitError(f"its form of a date has more than {_LONGEST_DATE} characters")
    return datetime.now().astimezone().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without escapes for HTML, as `transformers` has it."""
    pair = None if separators is None else _pair(separators)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys
    )


def _pair(separators: Iterable[str]) -> tuple[str, str]:
    item, key = separators
    return item, key
