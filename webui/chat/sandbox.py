"""Where a model's chat template runs: Jinja's immutable sandbox with bounds on time, memory and output.

A template comes out of a downloaded file and is a program. Jinja's sandbox keeps it from reaching Python, and does
nothing against a template that loops for ever or builds a string of gigabytes. So the parsed template is rewritten
before it is compiled: every loop, call, filter, concatenation and container literal goes through a meter, which raises
`TemplateTooExpensive` when the time or the text built exceeds its bound. What the templates mean is left to
`webui.chat.templates`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache, wraps
from itertools import islice
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_SOURCE = 1 << 20
"""Characters of a template; the longest in use are near 30,000."""
MAX_TOKENS = 20_000
"""Words and signs of a template, which compiling needs memory for: three times those of the longest in use."""
MAX_TEXT = 8 << 20
"""Characters of one string, and entries of one list: above what any context holds."""
MAX_BUILT = 128 << 20
"""Characters built in all while rendering once."""
MAX_SECONDS = 2.0
"""Time to render once. A chat of a hundred messages takes well under 2 ms."""
MAX_PADDING = 10_000
"""Widest padding or indentation, largest exponent."""

# String methods and filters that make text as long as a number says.
_PADDING = frozenset(
    {"ljust", "rjust", "center", "zfill", "expandtabs", "indent", "batch", "slice", "wordwrap", "truncate"}
)
_WIDE_FORMAT = re.compile(r"%[^%a-zA-Z]*(\d{5,}|\*)|\{[^{}]*:[^{}]*\d{5,}")


class TemplateTooExpensive(TemplateError):
    """The template exceeded a bound on time, text or nesting."""


class _Meter:
    """What one rendering has used."""

    __slots__ = ("built", "deadline")

    def __init__(self) -> None:
        self.built = 0
        self.deadline = time.monotonic() + MAX_SECONDS

    def charge(self, length: int) -> None:
        self.built += length
        if length > MAX_TEXT or self.built > MAX_BUILT:
            raise TemplateTooExpensive("the template builds more text than any context holds")
        if time.monotonic() > self.deadline:
            raise TemplateTooExpensive(f"the template ran for more than {MAX_SECONDS:g} s")


_meter: ContextVar[_Meter | None] = ContextVar("template_meter", default=None)


def _charge(length: int = 0) -> None:
    meter = _meter.get()
    if meter is not None:
        meter.charge(length)
    elif length > MAX_TEXT:
        raise TemplateTooExpensive("the template builds more text than any context holds")


@contextmanager
def metered() -> Iterator[None]:
    """The bounds hold for everything compiled and rendered inside, taken together."""
    if _meter.get() is not None:
        yield
        return
    token = _meter.set(_Meter())
    try:
        yield
    finally:
        _meter.reset(token)


def _charge_result(value: Any) -> Any:
    if isinstance(value, str):
        _charge(len(value))
    elif isinstance(value, list | tuple | dict):
        _charge(len(value))
        _expanded_size(value, {})
    elif isinstance(value, int) and value.bit_length() > MAX_PADDING:
        raise TemplateTooExpensive("the template computes with numbers that are too large")
    return value


def _expanded_size(value: Any, known: dict[int, int]) -> int:
    """How many entries `value` has when every reference is written out. Linear in the distinct containers, so a list
    that holds itself twice, sixty levels deep, is refused before anything writes it out.
    """
    if isinstance(value, str):
        return 1 + len(value) // 64
    if not isinstance(value, list | tuple | dict):
        return 1
    if (size := known.get(id(value))) is not None:
        return size
    children = value.values() if isinstance(value, dict) else value
    size = 1 + sum(_expanded_size(child, known) for child in children)
    if size > MAX_TEXT:
        raise TemplateTooExpensive("the template builds a structure that is too large")
    known[id(value)] = size
    return size


def _refuse_padding(arguments: Any) -> None:
    for argument in arguments:
        if isinstance(argument, int) and abs(argument) > MAX_PADDING:
            raise TemplateTooExpensive("the template pads text beyond reason")


def _refuse_wide_format(text: str, arguments: Any) -> None:
    if _WIDE_FORMAT.search(text):
        raise TemplateTooExpensive("the template formats with a width beyond reason")
    if "{" in text:
        _refuse_padding(arguments)


def _check_method(method: Any, arguments: tuple[Any, ...]) -> None:
    """Refuse, before it runs, a string method whose result would be out of proportion."""
    text = getattr(method, "__self__", None)
    name = getattr(method, "__name__", "")
    if not isinstance(text, str):
        return
    if name in _PADDING:
        _refuse_padding(arguments)
    elif name == "replace":
        _charge_replacement((text, *arguments))
    elif name == "join" and arguments:
        _charge_joining(arguments[0], text)


def _charge_replacement(arguments: Sequence[Any]) -> None:
    text, old, new = ([value for value in arguments if isinstance(value, str)] + ["", "", ""])[:3]
    _charge(len(text) + text.count(old) * len(new))


def _charge_joining(parts: Any, separator: Any) -> None:
    if isinstance(parts, list | tuple) and isinstance(separator, str):
        _charge(len(separator) * len(parts) + sum(len(part) for part in parts if isinstance(part, str)))


@pass_context
def _step(context: Context, length: int) -> str:
    """Called at each turn of a loop with the length of its constant text."""
    _charge(length + 1)
    return ""


def _concatenate(first: Any, *rest: Any) -> str:
    parts = [str(part) for part in (first, *rest)]
    _charge(sum(map(len, parts)))
    return "".join(parts)


class _Rewrite(NodeTransformer):
    """Put the meter into a parsed template."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        tick = nodes.Filter(nodes.Const(text), "meter_step", [], [], None, None, lineno=node.lineno)
        # `step` takes the context, which keeps the optimiser from computing it once and for all.
        node.body = [nodes.ExprStmt(tick, lineno=node.lineno), *node.body]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        first, *rest = node.nodes
        return nodes.Filter(first, "meter_concatenate", rest, [], None, None, lineno=node.lineno)

    def _literal(self, node: nodes.Expr) -> nodes.Expr:
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load" or not any(True for _ in node.find_all((nodes.Name, nodes.Call))):
            return node
        return nodes.Filter(node, "meter_measured", [], [], None, None, lineno=node.lineno)

    visit_List = _literal
    visit_Tuple = _literal
    visit_Dict = _literal


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}` marks what a model is trained on; here it is its content and no more."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _PublicNamespace(Namespace):
    """Jinja's namespace without names that begin with an underscore, which reach into Python."""

    def __init__(*args: Any, **values: Any) -> None:
        self, rest = args[0], args[1:]  # so that namespace(self=…) works, as in Jinja
        for name in dict(*rest, **values):
            _refuse_private(name)
        Namespace.__init__(self, *rest, **values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, _charge_result(value))


def _refuse_private(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace has no attribute {name!r}")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The environment that chat templates are written for, as transformers set it up, with the meter in it."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[_Generation, loopcontrols],
            finalize=_finalize,
        )
        self.filters["tojson"] = _tojson
        self.globals.pop("lipsum", None)
        self.globals.update(
            raise_exception=_raise_exception, strftime_now=_strftime_now, namespace=_PublicNamespace, dict=_make_dict
        )
        self.filters = {name: _metered_filter(name, function) for name, function in self.filters.items()}
        self.filters.update(meter_step=_step, meter_concatenate=_concatenate, meter_measured=_charge_result)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        elif operator == "**":
            _refuse_padding((right, left) if isinstance(right, int) else ())
        elif operator == "%" and isinstance(left, str):
            _refuse_wide_format(left, ())
        elif operator == "+" and isinstance(left, str) and isinstance(right, str):
            _charge(len(left) + len(right))
        return _charge_result(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        _charge()
        _check_method(__obj, (*args, *kwargs.values()))
        return _charge_result(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja puts its own function in the place of `str.format`, so the check has to be here."""
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        def run(*args: Any, **kwargs: Any) -> str:
            _refuse_wide_format(value.__self__, (*args, *kwargs.values()))
            return formatted(*args, **kwargs)

        return run

    def compile_metered(self, source: str) -> Template:
        """Parse, put the meter in, compile. Raises `TemplateError` (also for a source that is too long or too deep)."""
        if len(source) > MAX_SOURCE:
            raise TemplateTooExpensive(f"the template is longer than {MAX_SOURCE} characters")
        if sum(1 for _ in islice(self.lexer.tokeniter(source, None), MAX_TOKENS + 1)) > MAX_TOKENS:
            raise TemplateTooExpensive(f"the template has more than {MAX_TOKENS} words")
        try:
            tree = _Rewrite().visit(self.parse(source))
            return Template.from_code(self, self.compile(tree), self.make_globals(None))
        except (RecursionError, SyntaxError, MemoryError) as error:
            raise TemplateError("the template is nested too deeply") from error


def _check_product(left: Any, right: Any) -> None:
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple) and isinstance(times, int):
            _charge(len(sequence) * max(times, 0))


def _metered_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        _charge()
        values = (*args, *kwargs.values())
        if name in _PADDING:
            _refuse_padding(values)
        elif name == "format" and args:
            _refuse_wide_format(str(args[0]), values)
        elif name == "replace":
            _charge_replacement(values)
        elif name == "join" and len(values) >= 3:
            _charge_joining(values[1], values[2])
        result = function(*args, **kwargs)
        if isinstance(result, str):
            _charge(len(result))
        return result

    return run


def _finalize(value: Any) -> Any:
    text = value if isinstance(value, str) else str(value)
    _charge(len(text))
    return text


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter escapes for HTML, which a prompt does not want."""
    _refuse_padding((indent,))
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    if len(form) > 100 or _WIDE_FORMAT.search(form):
        raise TemplateTooExpensive("the template formats a date beyond reason")
    return datetime.now().strftime(form)


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


@lru_cache(maxsize=1)
def environment() -> TemplateEnvironment:
    """Built once: setting it up costs more than a rendering."""
    return TemplateEnvironment()


def compiled(source: str) -> Template:
    """The compiled template; the same source is compiled once. Raises `jinja2.TemplateError`, each time the same."""
    result = _compiled(source)
    if isinstance(result, TemplateError):
        raise result
    return result


@lru_cache(maxsize=16)
def _compiled(source: str) -> Template | TemplateError:
    try:
        return environment().compile_metered(source)
    except TemplateError as error:
        error.__cause__ = error.__context__ = None  # it is kept, and must not keep the parser's frames
        return error.with_traceback(None)


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Render `source` within the bounds. Raises `jinja2.TemplateError` and whatever an ill-typed template provokes."""
    with metered():
        return compiled(source).render(variables)
