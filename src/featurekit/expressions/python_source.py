"""Generate Python source for an expression: one inline expression over local variables.

A value is a pair of guards and source. The guards are conditions, in order of evaluation, under which the
value is not null; if they hold, the source is the value and does not raise. Strict operators merge the
guards of their operands, so that each condition is written once, in front. A guard may bind a temporary
variable (`(t := ...) is not None`) which later guards and the source use, so no source is repeated.

Conditions are generated as `holds(node, True)` (true, not null) or `holds(node, False)`, by polarity; only
where the three values matter are temporaries of conditions compared with None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from featurekit.expressions.kinds import Kind
from featurekit.expressions.nodes import EPOCH, HIGH32, LOW, LOW32, MAX_FLOAT, Node
from featurekit.expressions.operations import FUNCTIONS

PREFIX = "_fx_"
"""Of the names of helper functions in the globals of generated code."""

_HALF_DIGITS = 4503599627370496.0
_INT64 = "-9223372036854775808 <= {} <= 9223372036854775807"
_FINITE = f"-{MAX_FLOAT!r} <= {{}} <= {MAX_FLOAT!r}"
_TERM = tuple[list[str], str]


@dataclass(frozen=True, slots=True)
class PythonSource:
    """Generated source.

    Attributes:
        source: An expression, in parentheses unless it is a name or a literal; null is None.
        helpers: What its function's globals must hold, by name.
    """

    source: str
    helpers: dict[str, object]


def generate(
    root: Node, variables: Mapping[str, str], temporaries: Callable[[], str]
) -> PythonSource:
    """Return the source of a checked tree.

    Args:
        root: The tree.
        variables: The local variable of each input, which may be None.
        temporaries: Returns a new name for a local variable.
    """
    generator = _Generator(variables, temporaries)
    source = generator.root(root)
    return PythonSource(source, generator.helpers)


class _Generator:
    def __init__(self, variables: Mapping[str, str], temporaries: Callable[[], str]) -> None:
        self._variables, self._temporary = variables, temporaries
        self._bound: dict[str, str] = {}  # the source of temporaries that may be None
        self.helpers: dict[str, object] = {}

    def root(self, node: Node) -> str:
        """Return the source of the whole value; a float's zero has no sign."""
        if node.kind is not Kind.FLOAT or node.op == "literal":
            return self.final(node)
        guards, source = self.observed(node)
        return _when(guards, f"({source} or 0.0)")

    def final(self, node: Node) -> str:
        """Return source of the value, or of None."""
        if node.kind is Kind.BOOL and node.op in _PREDICATES:
            return self.three_valued(node)
        guards, source = self.observed(node)
        if guards and guards[-1] == f"({source} := {self._bound.get(source)}) is not None":
            guards, source = guards[:-1], self._bound[source]
        elif guards == [f"{source} is not None"]:
            return source
        return _when(guards, source)

    def observed(self, node: Node) -> _TERM:
        """Return a value that is null if it is a float that is not finite."""
        if node.is_chain:
            guards, source = self.chain(node, is_divisor=False)
            name = self._temporary()
            return [*guards, _FINITE.format(f"({name} := {source})")], name
        return self.term(node)

    def term(self, node: Node) -> _TERM:
        """Return a value of any operation but those of a chain."""
        if node.kind is Kind.BOOL and node.op in _PREDICATES:
            if not node.nullable:
                return [], self.holds(node, expected=True)
            return self.maybe([], self.three_valued(node))
        if method := _METHODS.get(node.op):
            return method(self, node)
        guards, sources = self.operands(node)
        return guards, _TEMPLATES[node.op].format(*sources, value=node.value)

    def operands(self, node: Node) -> tuple[list[str], list[str]]:
        """Return the guards of all operands of a strict operation, and their sources."""
        guards: list[str] = []
        sources = []
        for arg in node.args:
            more, source = self.observed(arg)
            _merge(guards, more)
            sources.append(source)
        return guards, sources

    def helper(self, name: str) -> str:
        """Return the global name of a function, and list it among the helpers."""
        self.helpers[PREFIX + name] = FUNCTIONS[name]
        return PREFIX + name

    def constant(self, value: object) -> str:
        """Return the source of a literal."""
        if not isinstance(value, date | timedelta):
            return f"({value!r})" if repr(value).startswith("-") else repr(value)
        digits = "".join(c if c.isalnum() else "_" for c in str(value))
        name = f"{PREFIX}{type(value).__name__}_{digits}"
        self.helpers[name] = value
        return name

    def maybe(self, guards: list[str], source: str) -> _TERM:
        """Return a value whose source may be None."""
        name = self._temporary()
        self._bound[name] = source
        return [*guards, f"({name} := {source}) is not None"], name

    def bind(self, term: _TERM) -> _TERM:
        """Return a value whose source is a name, and may be written more than once."""
        guards, source = term
        return term if source.isidentifier() else self.maybe(guards, source)

    # leaves

    def name(self, node: Node) -> _TERM:
        variable = self._variables[str(node.value)]
        guards = [f"{variable} is not None"] if node.nullable else []
        if node.kind is Kind.FLOAT:  # stored floats may be nan or inf
            guards.append(_FINITE.format(variable))
        return guards, variable

    def literal(self, node: Node) -> _TERM:
        return (["False"] if node.value is None else []), self.constant(node.value)

    # numbers

    def chain(self, node: Node, *, is_divisor: bool) -> _TERM:
        """Return a part of a chain of float operations, which may be nan or inf.

        Infinity and nan reach the end of a chain, where they are found, but not through a divisor.
        """
        if node.op == "name" and node.kind is Kind.FLOAT and not is_divisor:
            return self.name(node)[0][:-1], self._variables[str(node.value)]
        if not node.is_chain:
            return self.observed(node)
        parts = [
            self.chain(arg, is_divisor=is_divisor or (i > 0 and node.op == "/"))
            for i, arg in enumerate(_unconverted(node.args))
        ]
        guards: list[str] = []
        for more, _ in parts:
            _merge(guards, more)
        sources = [source for _, source in parts]
        if node.op == "/":
            sources[1] = self._divisor(node.args[1], guards, sources[1])
        return guards, _CHAIN_TEMPLATES[node.op].format(*sources)

    def _divisor(self, node: Node, guards: list[str], source: str) -> str:
        """Add the guard that a divisor is not zero; return its source."""
        if node.op == "literal":
            if not node.value:
                guards.append("False")
            return source
        return self._truthy(guards, source)

    def _truthy(self, guards: list[str], source: str) -> str:
        """Add the guard that a number is not zero; return its name."""
        if not source.isidentifier():
            name = self._temporary()
            guards.append(f"({name} := {source})")
            return name
        if source not in guards:
            plain = f"{source} is not None"
            if plain in guards:  # None is not true either
                guards[guards.index(plain)] = source
            else:
                guards.append(source)
        return source

    def to_float(self, node: Node) -> _TERM:
        guards, (source,) = self.operands(node)
        return guards, f"({source} + 0.0)"

    def checked_int(self, node: Node) -> _TERM:
        guards, sources = self.operands(node)
        source = _CHAIN_TEMPLATES[node.op].format(*sources)
        if node.value != "check":
            return guards, source
        return self._in_range(guards, source, _INT64)

    def _in_range(self, guards: list[str], source: str, condition: str) -> _TERM:
        name = self._temporary()
        return [*guards, condition.format(f"({name} := {source})")], name

    def quotient(self, node: Node) -> _TERM:
        guards, (a, b) = self.operands(node)
        b = self._divisor(node.args[1], guards, b)
        source = f"{self.helper('quotient')}({a}, {b})"
        return (
            self._in_range(guards, source, _INT64) if node.args[0].low == LOW else (guards, source)
        )

    def remainder(self, node: Node) -> _TERM:
        guards, (a, b) = self.operands(node)
        b = self._divisor(node.args[1], guards, b)
        if node.kind is Kind.FLOAT:
            return guards, f"{self.helper('fmod')}({a}, {b})"
        if node.args[0].low >= 0 and node.args[1].low > 0:
            return guards, f"({a} % {b})"
        return guards, f"{self.helper('remainder')}({a}, {b})"

    def within_domain(self, node: Node) -> _TERM:
        """A function of floats that is null outside its domain."""
        guards, a = self.observed(node.args[0])
        if not a.isidentifier():
            name = self._temporary()
            return (
                [*guards, _DOMAINS[node.op].format(f"({name} := {a})")],
                f"{self.helper(node.op)}({name})",
            )
        return [*guards, _DOMAINS[node.op].format(a)], f"{self.helper(node.op)}({a})"

    def calls(self, node: Node) -> _TERM:
        guards, sources = self.operands(node)
        return guards, f"{self.helper(node.op)}({', '.join(sources)})"

    def calls_maybe(self, node: Node) -> _TERM:
        return self.maybe(*self.calls(node))

    def atan2(self, node: Node) -> _TERM:
        guards, (a, b) = self.operands(node)
        return guards, f"{self.helper('atan2')}({a} + 0.0, {b} + 0.0)"

    def round(self, node: Node) -> _TERM:
        guards, (a,) = self.operands(node)
        if not node.value:
            return guards, f"{self.helper('round')}({a})"
        scale = 10.0 ** int(str(node.value))
        return guards, f"{self.helper('round_digits')}({a}, {scale!r}, {_HALF_DIGITS / scale!r})"

    def whole(self, node: Node) -> _TERM:
        guards, source = self.calls(node)
        return guards, f"float({source})"

    def sign(self, node: Node) -> _TERM:
        guards, a = self.bind(self.observed(node.args[0]))
        return guards, f"(({a} > 0) - ({a} < 0))"

    def to_int(self, node: Node) -> _TERM:
        guards, a = self.bind(self.observed(node.args[0]))
        return [*guards, f"-9223372036854775808.0 <= {a} < 9223372036854775808.0"], f"int({a})"

    def to_int32(self, node: Node) -> _TERM:
        guards, (a,) = self.operands(node)
        return self._in_range(guards, a, f"{LOW32} <= {{}} <= {HIGH32}")

    def to_float32(self, node: Node) -> _TERM:
        guards, (a,) = self.operands(node)
        return self.maybe(guards, f"{self.helper('float32')}({a})")

    def to_string(self, node: Node) -> _TERM:
        guards, (a,) = self.operands(node)
        if node.args[0].kind is Kind.BOOL:
            return guards, f"('true' if {a} else 'false')"
        return guards, f"str({a})"

    # choice

    def case(self, node: Node) -> _TERM:
        count = int(str(node.value))
        source = self.final(node.args[-1])
        branches = zip(node.args[:count], node.args[count:-1], strict=True)
        for condition, value in reversed(list(branches)):
            source = f"{self.final(value)} if {self.holds(condition, expected=True)} else {source}"
        source = f"({source})"
        return self.maybe([], source) if node.nullable else ([], source)

    def coalesce(self, node: Node) -> _TERM:
        source = "None"
        for arg in reversed(node.args):
            guards, value = self.observed(arg)
            source = f"{value} if {' and '.join(guards)} else {source}" if guards else value
        source = f"({source})"
        return self.maybe([], source) if node.nullable else ([], source)

    def nullif(self, node: Node) -> _TERM:
        a, b = node.args
        guards, source = self.bind(self.observed(a))
        guards = [*guards]
        if b.op == "literal" and b.value == 0 and b.kind in (Kind.INT, Kind.FLOAT):
            return guards, self._truthy(guards, source)
        compared = source
        if node.value:
            compared = f"({source} + 0.0)" if node.value == "to float" else self._midnight(source)
        more, other = self.observed(b)
        equal = " and ".join([*more, f"{compared} == {other}"])
        return [*guards, f"not ({equal})" if more else f"{compared} != {other}"], source

    def extreme(self, node: Node) -> _TERM:
        """`greatest` and `least`, which skip nulls."""
        finals = [self.final(arg) for arg in node.args]
        if len(finals) == 2:  # noqa: PLR2004 - the usual case, without a call
            source = self._greater(finals[0], finals[1], ">=" if node.op == "greatest" else "<=")
        else:
            source = f"{self.helper(node.op)}({', '.join(finals)})"
        return self.maybe([], source) if node.nullable else ([], source)

    def _greater(self, first: str, second: str, operator: str) -> str:
        a, b = self._temporary(), self._temporary()
        return (
            f"((None if {a} is None else {a} if {a} {operator} {b} else {b})"
            f" if (({a} := {first}) is None) is (({b} := {second}) is None)"
            f" else {b} if {a} is None else {a})"
        )

    def item(self, node: Node) -> _TERM:
        guards, array = self.bind(self.observed(node.args[0]))
        index = int(str(node.value))
        guards, item = self.maybe([*guards, f"len({array}) >= {index}"], f"{array}[{index - 1}]")
        return ([*guards, _FINITE.format(item)] if node.kind is Kind.FLOAT else guards), item

    # strings and times

    def substr(self, node: Node) -> _TERM:
        guards, (a,) = self.operands(node)
        start, length = _pair(node)
        return guards, f"{a}[{int(start) - 1}:{int(start) - 1 + int(length)}]"

    def replace(self, node: Node) -> _TERM:
        guards, (a,) = self.operands(node)
        old, new = _pair(node)
        return guards, f"{a}.replace({old!r}, {new!r})"

    def join(self, node: Node) -> _TERM:
        guards, sources = self.operands(node)
        return guards, f"({' + '.join(sources)})"

    def to_timestamp(self, node: Node) -> _TERM:
        guards, (a,) = self.operands(node)
        return guards, self._midnight(a)

    def _midnight(self, day: str) -> str:
        return f"{self.helper('midnight')}({day})"

    def part(self, node: Node) -> _TERM:
        guards, (a,) = self.operands(node)
        return guards, f"{a}.isoweekday()" if node.value == "isodow" else f"{a}.{node.value}"

    def epoch(self, node: Node) -> _TERM:
        guards, (a,) = self.operands(node)
        return guards, self._seconds(a, self.constant(EPOCH))

    def elapsed(self, node: Node) -> _TERM:
        guards, (a, b) = self.operands(node)
        return guards, self._seconds(a, b)

    def _seconds(self, end: str, start: str) -> str:
        """Return the source of a time in seconds: a whole number of microseconds, divided as a float."""
        return f"(({end} - {start}) / {self.constant(timedelta(microseconds=1))} / 1000000.0)"

    def date_diff(self, node: Node) -> _TERM:
        guards, (a, b) = self.operands(node)
        unit, start = self._unit(node), self.constant(EPOCH)
        return guards, f"(({b} - {start}) // {unit} - ({a} - {start}) // {unit})"

    def date_trunc(self, node: Node) -> _TERM:
        guards, (a,) = self.operands(node)
        unit, start = self._unit(node), self.constant(EPOCH)
        return guards, f"({start} + ({a} - {start}) // {unit} * {unit})"

    def _unit(self, node: Node) -> str:
        return self.constant(timedelta(microseconds=int(str(node.value))))

    # conditions

    def three_valued(self, node: Node) -> str:
        """Return source that is True, False or None."""
        if not node.nullable:
            return self.holds(node, expected=True)
        if node.op in ("and", "or"):
            return self._three_valued_logic(node)
        if node.op == "not":
            name = self._temporary()
            return f"(None if ({name} := {self.final(node.args[0])}) is None else not {name})"
        if node.op == "between":
            return self._three_valued_between(node)
        guards, source = self.predicate(node)
        return _when(guards, source if not guards else f"({source})")

    def _three_valued_logic(self, node: Node) -> str:
        names = [self._temporary() for _ in node.args]
        decides = node.op == "or"
        tests = " or ".join(
            f"({name} := {self.final(arg)}) is {decides}"
            for name, arg in zip(names, node.args, strict=True)
        )
        nulls = " or ".join(f"{name} is None" for name in names)
        return f"({decides} if {tests} else None if {nulls} else {not decides})"

    def _three_valued_between(self, node: Node) -> str:
        x, low, high = (self._temporary() for _ in range(3))
        sources = [self.final(arg) for arg in node.args]
        return (
            f"(None if ({x} := {sources[0]}) is None else"
            f" False if (({low} := {sources[1]}) is not None and {x} < {low})"
            f" or (({high} := {sources[2]}) is not None and {x} > {high})"
            f" else None if {low} is None or {high} is None else True)"
        )

    def holds(self, node: Node, *, expected: bool) -> str:
        """Return source that is true if a condition is as expected, and not null."""
        if node.op == "not":
            return self.holds(node.args[0], expected=not expected)
        if node.op in ("and", "or"):
            joined = node.op if expected else {"and": "or", "or": "and"}[node.op]
            return f"({f' {joined} '.join(self.holds(a, expected=expected) for a in node.args)})"
        if node.op == "is null":
            return self._is_null(node.args[0], expected=expected)
        if node.op in _PREDICATES:
            return self._holds_predicate(node, expected=expected)
        return (
            str(node.value is expected)
            if node.op == "literal"
            else f"({self.final(node)} is {expected})"
        )

    def _is_null(self, node: Node, *, expected: bool) -> str:
        if not node.nullable:
            return str(not expected)
        return f"({self.final(node)} is {'' if expected else 'not '}None)"

    def _holds_predicate(self, node: Node, *, expected: bool) -> str:
        if node.op == "between" and not expected:
            return f"({self._three_valued_between(node)} is False)"
        guards, source = self.predicate(node)
        return f"({' and '.join([*guards, source if expected else f'not {source}'])})"

    def predicate(self, node: Node) -> _TERM:
        """Return a condition that is null only if an operand is."""
        guards, sources = self.operands(node)
        if node.op == "compare":
            operator = {"=": "==", "<>": "!="}.get(str(node.value), node.value)
            return guards, f"{sources[0]} {operator} {sources[1]}"
        if node.op == "between":
            return guards, f"{sources[1]} <= {sources[0]} <= {sources[2]}"
        if node.op == "in":
            listed = ", ".join(self.constant(value) for value in _values(node))
            return guards, f"{sources[0]} in {{{listed}}}"
        if node.op == "like":
            return guards, self._like(sources[0], str(node.value))
        return guards, _TEMPLATES[node.op].format(*sources)

    def _like(self, text: str, pattern: str) -> str:
        first, *rest = pattern.split("%")
        simple = None if "_" in pattern else _simple_like(text, first, rest)
        return simple or f"{self.helper('like')}({text}, {first!r}, {tuple(rest)!r})"


def _simple_like(text: str, first: str, rest: list[str]) -> str | None:
    """Return the condition for a pattern that is text with `%` at its ends at most."""
    if not rest:
        return f"{text} == {first!r}"
    if rest == [""]:
        return f"{text}.startswith({first!r})"
    if first:
        return None
    if len(rest) == 1:
        return f"{text}.endswith({rest[0]!r})"
    return f"{rest[0]!r} in {text}" if rest[1:] == [""] else None


def _unconverted(args: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return operands without conversions from int to float that Python does itself."""
    if len(args) == 1 or not any(arg.op == "to float" for arg in args):
        return args
    first, second = args
    if second.op == "to float":
        return first, second.args[0]
    return first.args[0], second


def _when(guards: list[str], source: str) -> str:
    return f"({source} if {' and '.join(guards)} else None)" if guards else source


def _merge(guards: list[str], more: list[str]) -> None:
    """Add guards that are not there yet; a name that is true is also not None."""
    for guard in more:
        if guard not in guards and guard.removesuffix(" is not None") not in guards:
            guards.append(guard)


def _pair(node: Node) -> tuple[Any, Any]:
    value: Any = node.value
    first, second = value
    return first, second


def _values(node: Node) -> tuple[object, ...]:
    value: Any = node.value
    return tuple(value)


_PREDICATES = {
    "compare", "between", "in", "like", "starts_with", "ends_with", "contains", "list_contains",
    "and", "or", "not", "is null",
}  # fmt: skip
_CHAIN_TEMPLATES = {
    "+": "({} + {})", "-": "({} - {})", "*": "({} * {})", "/": "({} / {})",
    "neg": "(-{})", "abs": "abs({})",
}  # fmt: skip
_DOMAINS = {
    "sqrt": "{} >= 0.0", "ln": "{} > 0.0", "log10": "{} > 0.0",
    "asin": "-1.0 <= {} <= 1.0", "acos": "-1.0 <= {} <= 1.0",
}  # fmt: skip
_TEMPLATES = {
    "starts_with": "{}.startswith({})",
    "ends_with": "{}.endswith({})",
    "contains": "{1} in {0}",
    "list_contains": "{1} in {0}",
    "bool to int": "(1 if {} else 0)",
    "to date": "{}.date()",
    "radians": "({} * 0.017453292519943295)",
    "length": "len({})",
    "len": "len({})",
    "trim": "{}.strip(' ')",
    "days": "({1}.toordinal() - {0}.toordinal())",
}
_METHODS: dict[str, Callable[[_Generator, Node], _TERM]] = {
    "name": _Generator.name, "literal": _Generator.literal, "to float": _Generator.to_float,
    **dict.fromkeys(("+", "-", "*", "neg", "abs"), _Generator.checked_int),
    "//": _Generator.quotient, "%": _Generator.remainder,
    **dict.fromkeys(_DOMAINS, _Generator.within_domain),
    **dict.fromkeys(("sin", "cos", "atan", "lower", "upper"), _Generator.calls),
    **dict.fromkeys(("exp", "power"), _Generator.calls_maybe),
    "atan2": _Generator.atan2, "round": _Generator.round, "sign": _Generator.sign,
    **dict.fromkeys(("floor", "ceil"), _Generator.whole),
    "to int": _Generator.to_int, "to int32": _Generator.to_int32,
    "to float32": _Generator.to_float32, "to timestamp": _Generator.to_timestamp,
    "case": _Generator.case, "coalesce": _Generator.coalesce, "nullif": _Generator.nullif,
    **dict.fromkeys(("greatest", "least"), _Generator.extreme), "item": _Generator.item,
    "substr": _Generator.substr, "replace": _Generator.replace, "||": _Generator.join,
    "epoch": _Generator.epoch, "elapsed": _Generator.elapsed,
    "part": _Generator.part, "date_diff": _Generator.date_diff,
    "date_trunc": _Generator.date_trunc, "to string": _Generator.to_string,
}  # fmt: skip
