"""An expression: parsed from text or taken from a document, checked, and combined with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from featurekit.expressions import duckdb
from featurekit.expressions import python_source as python
from featurekit.expressions.checker import check
from featurekit.expressions.document import from_document as syntax_from_document
from featurekit.expressions.document import to_document
from featurekit.expressions.kinds import TIMESTAMP, ExpressionError, ExpressionType, Kind
from featurekit.expressions.nodes import Node
from featurekit.expressions.python_source import PythonSource
from featurekit.expressions.syntax import Syntax, check_size, parse_syntax


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression. Immutable, comparable and picklable.

    Attributes:
        syntax: The tree as written; its document goes into the registry.
        root: The checked tree.
        inputs: The inputs that it uses and their types, in order of first use; `now` is the time of
            the read, or of the label.
    """

    syntax: Syntax
    root: Node
    inputs: tuple[tuple[str, ExpressionType], ...]

    @property
    def type(self) -> ExpressionType:
        """The type of its value."""
        return self.root.type

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its inputs, in order of first use."""
        return tuple(name for name, _ in self.inputs)

    def document(self) -> list[object]:
        """Return the tree as lists and strings, from which `from_document` makes it again."""
        return to_document(self.syntax)

    def converted(self, to: ExpressionType) -> Expression:
        """Return the expression with a value of a field's type.

        Integers widen to floats; a value outside int32, or beyond float32, is null.

        Raises:
            ExpressionError: The types do not fit.
        """
        if to.kind is not self.type.kind and (self.type.kind, to.kind) != (Kind.INT, Kind.FLOAT):
            raise ExpressionError(
                f"the expression gives {self.type}, and the field is {to}",
                self.syntax.span,
                _conversion_hint(self.type, to),
            )
        if to.element != self.type.element and str(to.element) != str(self.type.element):
            raise ExpressionError(
                f"the expression gives {self.type}, and the field is {to}", self.syntax.span
            )
        if to.kind not in (Kind.INT, Kind.FLOAT) or to == self.type:
            return self
        return _checked(
            Syntax("cast", (self.syntax,), str(to), self.syntax.span), dict(self.inputs)
        )

    def or_default(self, value: object) -> Expression:
        """Return the expression with a value instead of null.

        Raises:
            ExpressionError: The value is not of the expression's type.
        """
        syntax = Syntax("call", (self.syntax, _literal(value)), "coalesce", self.syntax.span)
        return _checked(syntax, dict(self.inputs))


def _literal(value: object) -> Syntax:
    """Return the tree of a decoded value."""
    if isinstance(value, bool):
        return Syntax(str(value).lower())
    if isinstance(value, int | float):
        number = Syntax("number", (), repr(value).removeprefix("-"))
        return Syntax("neg", (number,)) if repr(value).startswith("-") else number
    if isinstance(value, datetime):
        text = value.astimezone(UTC).isoformat().removesuffix("+00:00")
        return Syntax("timestamp literal", (), f"{text}Z")
    if isinstance(value, date):
        return Syntax("date literal", (), value.isoformat())
    if isinstance(value, str):
        return Syntax("string", (), value)
    hint = "remove the default, or name the inputs of that feature here"
    raise ExpressionError(f"a default of type {type(value).__name__} is not a literal", hint=hint)


def _conversion_hint(found: ExpressionType, to: ExpressionType) -> str:
    if found.kind is Kind.FLOAT and to.kind is Kind.INT:
        return "write cast(round(...) as bigint), or make the field a float64"
    if to.kind is Kind.BOOL:
        return "compare the value, as in ... > 0"
    return f"make the field a {found}, or cast the value"


def parse(text: str, names: Mapping[str, ExpressionType]) -> Expression:
    """Return the expression that a text is.

    Args:
        text: The expression.
        names: The inputs that it may use, and their types; `now` is a timestamp unless it is among them.

    Raises:
        ExpressionError: The text is not a valid expression over these inputs.
    """
    return _checked(parse_syntax(text, names), names)


def from_document(document: object, names: Mapping[str, ExpressionType]) -> Expression:
    """Return the expression of a document, which is checked as a text is.

    Raises:
        ExpressionError: The document is not a valid expression over these inputs.
    """
    return _checked(syntax_from_document(document), names)


def substitute(expression: Expression, name: str, other: Expression) -> Expression:
    """Return an expression with another one instead of an input.

    Raises:
        ExpressionError: The types do not fit, or the result is too large.
    """
    names = {**dict(expression.inputs), **dict(other.inputs)}
    return _checked(_replaced(expression.syntax, name, other.syntax), names)


def _replaced(syntax: Syntax, name: str, other: Syntax) -> Syntax:
    if syntax.op == "name":
        return other if syntax.value == name else syntax
    args = tuple(_replaced(arg, name, other) for arg in syntax.args)
    return Syntax(syntax.op, args, syntax.value, syntax.span)


def _checked(syntax: Syntax, names: Mapping[str, ExpressionType]) -> Expression:
    check_size(syntax)
    root = check(syntax, names)
    used = dict.fromkeys(_names(syntax))
    inputs = tuple((name, names.get(name, TIMESTAMP)) for name in used)
    return Expression(syntax, root, inputs)


def _names(syntax: Syntax) -> Iterator[str]:
    if syntax.op == "name":
        yield syntax.value
    for arg in syntax.args:
        yield from _names(arg)


def python_source(
    expression: Expression, variables: Mapping[str, str], temporaries: Callable[[], str]
) -> PythonSource:
    """Return Python source of an expression, to be written into a function.

    Args:
        expression: The expression.
        variables: The local variable of each input, whose value is None for null.
        temporaries: Returns a new name for a local variable.
    """
    return python.generate(expression.root, variables, temporaries)


def select_sql(
    expressions: Mapping[str, Expression],
    source: str,
    columns: Mapping[str, str],
    *,
    keep: str = "",
    prefix: str = "_expression_",
) -> str:
    """Return a query for DuckDB: some columns of a source, and the values of expressions.

    Args:
        expressions: By the names of their columns.
        source: What follows FROM: a table, or a query in parentheses.
        columns: The SQL of each input, over the source. It has the type of the input: a timestamp is a
            TIMESTAMPTZ; numbers may be narrower.
        keep: The source's columns to keep, as SQL, such as `id, at` or `*`.
        prefix: Begins the names of inner columns; names of the source's columns must not begin so.
    """
    nodes = {name: expression.root for name, expression in expressions.items()}
    return duckdb.select_sql(nodes, source, columns, keep=keep, prefix=prefix)
