r"""Find what makes a regular expression of `pattern` backtrack without bound.

Python's `re` tries every way in which an expression can match before it reports that none does, and
nothing can interrupt it meanwhile. So expressions with too many ways for one text are refused:

- ambiguous: inside a quantifier, one text can be divided in several ways, as in `(a+)+` or
  `(a|ab|b)*`. The number of ways doubles with each repetition.
- adjacent: one quantifier begins where another may end, on the same text, as in `\d+\d*`.
- back-references, whose cost cannot be foreseen.

An expression becomes a position automaton (Glushkov): a state for each character it names, and an
edge to each one that may follow. It is ambiguous if a pair of states leads from one state back to it
by two ways on the same text, and adjacent if a text leads from a state of a loop to itself, from
there to a state of the next loop, and from that to itself (Weber and Seidl, 1991). Characters are
represented by samples: ASCII, some others, and every end of a range. A repetition up to a number
counts as a loop, one of a fixed number as copies. Quantifiers with something certain between them, as
in `.*@.*`, are allowed: they cost the square of the length, which `max_length` limits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from itertools import product
from typing import Any

_parser: Any = import_module("re._parser")

Node = tuple[Any, Any]
Chars = frozenset[str]

MAX_WAYS = 100_000
"""How many ways adjacent quantifiers with an upper limit may divide a text."""

MAX_STATES = 300
_TOO_MANY = MAX_WAYS + 1
_UNLIMITED = 1000
"""What a quantifier without an upper limit counts for, next to one with a limit."""

_COPIES = 3
_LOOKAROUND = {"ASSERT", "ASSERT_NOT"}
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
_NON_ASCII = "é\xa0ß\u017f\u0131Ωя٣\u2003中\u212a😀"
_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def backtracking_risk(pattern: str) -> str | None:
    r"""Return what may make a valid expression backtrack without bound, as text; `None` if nothing.

    Examples:
        >>> backtracking_risk(r"[A-Z]{2}\d+")
        >>> backtracking_risk(r"(a+)+")
        'the quantifier in `(a+)+` can divide one text in several ways'
    """
    tree = _parser.parse(pattern)
    nodes = list(_all_nodes(tree))
    for op, _ in nodes:
        if str(op).startswith("GROUPREF"):
            return "a back-reference"
    samples = _samples(nodes)
    parts = [tree, *(_separate_part(node) for node in nodes if _is_separate(node))]
    for part in parts:
        if risk := _Automaton(samples, tree.state.flags).risk(list(part)):
            return risk
    return None


def _all_nodes(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        for body in _bodies(node):
            yield from _all_nodes(body)


def _bodies(node: Node) -> list[Sequence[Node]]:
    """Return the expressions directly inside a node."""
    name, value = str(node[0]), node[1]
    if name in _REPEATS:
        return [value[2]]
    if name == "SUBPATTERN":
        return [value[3]]
    if name == "BRANCH":
        return list(value[1])
    if name in _LOOKAROUND:
        return [value[1]]
    return [value] if name == "ATOMIC_GROUP" else []


def _is_separate(node: Node) -> bool:
    """Return whether nothing outside a node makes it try another way to match."""
    return str(node[0]) in {*_LOOKAROUND, "ATOMIC_GROUP", "POSSESSIVE_REPEAT"}


def _separate_part(node: Node) -> Sequence[Node]:
    if str(node[0]) == "POSSESSIVE_REPEAT":
        return [(_parser.MAX_REPEAT, node[1])]
    return _bodies(node)[0]


def _samples(nodes: Iterable[Node]) -> Chars:
    """Return characters that stand for all: any two sets that overlap share one of them."""
    found = {*map(chr, range(128)), *_NON_ASCII}
    for op, value in nodes:
        for name, each in [(str(op), value), *((str(o), v) for o, v in _items(op, value))]:
            ends = [each] if name in {"LITERAL", "NOT_LITERAL"} else []
            ends = list(each) if name == "RANGE" else ends
            near = {end + step for end in ends for step in (-1, 0, 1)}
            found.update(chr(code) for code in near if 0 <= code <= 0x10FFFF)  # noqa: PLR2004 - the last character
    return frozenset(
        found | {other for c in found for other in (c.lower(), c.upper()) if len(other) == 1}
    )


def _items(op: Any, value: Any) -> list[Node]:
    return list(value) if str(op) == "IN" else []


@cache
def _category(name: str, samples: Chars, flags: int) -> Chars:
    matches = re.compile(_CATEGORIES[name], flags & (re.ASCII | re.UNICODE)).match
    return frozenset(filter(matches, samples))


@dataclass
class _Part:
    """Where an expression may begin and end; whether it may be empty."""

    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    nullable: bool = True


class _Automaton:
    def __init__(self, samples: Chars, flags: int) -> None:
        self._samples, self._flags = samples, flags
        self._chars: list[Chars] = []
        self._edges: Counter[tuple[int, int]] = Counter()
        self._loops: list[tuple[Node, range, int]] = []
        self._empty_twice: list[int] = []  # after how many states something is empty in two ways
        self._risk: str | None = None
        self._once = False

    def risk(self, nodes: Sequence[Node]) -> str | None:
        """Return what makes an expression backtrack without bound."""
        self._sequence(nodes)
        return self._risk or self._adjacency()

    # Building.

    def _sequence(self, nodes: Sequence[Node]) -> _Part:
        whole, optional = _Part(), 0
        before: Chars = frozenset()
        for node in nodes:
            start = len(self._chars)
            part = self._node(node)
            now = frozenset().union(*self._chars[start:]) if part.nullable else frozenset()
            optional = optional + 1 if now & before else 1
            before = now
            if 2**optional > MAX_WAYS:
                self._report("many optional parts in a row that can match the same text")
            self._connect(whole.last, part.first)
            whole = _Part(
                whole.first + part.first if whole.nullable else whole.first,
                whole.last + part.last if part.nullable else part.last,
                whole.nullable and part.nullable,
            )
        return whole

    def _node(self, node: Node) -> _Part:
        name, value = str(node[0]), node[1]
        if name in _REPEATS:
            part = self._repeat(node)
        elif name == "BRANCH":
            part = self._branch(value[1])
        elif name == "SUBPATTERN":
            before = self._flags
            self._flags = (before | value[1]) & ~value[2]
            part = self._sequence(value[3])
            self._flags = before
        elif name == "ATOMIC_GROUP":
            part = self._without_loops(value)
        elif name == "AT" or name in _LOOKAROUND:
            part = _Part()
        else:
            self._chars.append(self._set(node))
            state = len(self._chars) - 1
            part = _Part([state], [state], nullable=False)
        return part

    def _branch(self, branches: Sequence[Sequence[Node]]) -> _Part:
        parts = [self._sequence(branch) for branch in branches]
        if sum(part.nullable for part in parts) > 1:
            self._empty_twice.append(len(self._chars))
        return _Part(
            [state for part in parts for state in part.first],
            [state for part in parts for state in part.last],
            any(part.nullable for part in parts),
        )

    def _without_loops(self, nodes: Sequence[Node]) -> _Part:
        before, self._once = self._once, True
        part = self._sequence(nodes)
        self._once = before
        return part

    def _repeat(self, node: Node) -> _Part:
        least, most, body = node[1]
        if str(node[0]) == "POSSESSIVE_REPEAT" or self._once:
            part = self._without_loops(body)
        elif least == most and not any(map(_may_vary, _all_nodes(body))):
            part = self._sequence([*body] * min(least, _COPIES))
        else:
            start = len(self._chars)
            part = self._sequence([*body])
            if part.nullable:
                self._empty_twice.append(len(self._chars))
            if most > 1:
                self._connect(part.last, part.first)
                self._add_loop(node, range(start, len(self._chars)), may_be_empty=part.nullable)
        return _Part(part.first, part.last, part.nullable or not least)

    def _add_loop(self, node: Node, states: range, *, may_be_empty: bool) -> None:
        least, most, _ = node[1]
        self._loops.append((node, states, min(int(most) - int(least) + 1, _TOO_MANY)))
        text = f"the quantifier in `{_text([node])}`"
        if _ways([node]) <= MAX_WAYS or self._risk:
            return
        if len(states) > MAX_STATES:
            self._report(f"{text} repeats more than can be checked")
        elif may_be_empty:
            self._report(f"{text} repeats what may be empty")
        elif self._is_ambiguous(states):
            self._report(f"{text} can divide one text in several ways")

    def _report(self, risk: str) -> None:
        self._risk = self._risk or risk

    def _connect(self, last: Iterable[int], first: Iterable[int]) -> None:
        self._edges.update(product(last, first))

    def _set(self, node: Node) -> Chars:
        """Return the samples that match a node of one character."""
        name, value = str(node[0]), node[1]
        if name == "ANY":
            found = self._samples if self._flags & re.DOTALL else self._samples - {"\n"}
        elif name == "IN":
            is_negated = str(value[0][0]) == "NEGATE"
            found = frozenset().union(*map(self._set, value[is_negated:]))
            found = self._samples - found if is_negated else found
        elif name == "NOT_LITERAL":
            found = self._samples - self._range(value, value)
        elif name == "CATEGORY":
            found = _category(str(value), self._samples, self._flags)
        else:
            found = self._range(*(value if name == "RANGE" else (value, value)))
        return found

    def _range(self, low: int, high: int) -> Chars:
        def is_within(character: str) -> bool:
            forms = {character}
            if self._flags & re.IGNORECASE:
                forms |= {character.lower(), character.upper(), character.casefold()}
            return any(len(form) == 1 and low <= ord(form) <= high for form in forms)

        return frozenset(filter(is_within, self._samples))

    # Searching.

    def _is_ambiguous(self, states: range) -> bool:
        """Return whether one text leads from a state of a loop back to it by two ways."""
        edges = {
            edge: count
            for edge, count in self._edges.items()
            if edge[0] in states and edge[1] in states
        }
        is_empty_twice = any(states.start < count <= states.stop for count in self._empty_twice)
        is_doubled = max(edges.values(), default=0) > 1
        return is_empty_twice or is_doubled or self._has_two_ways(edges)

    def _has_two_ways(self, edges: Iterable[tuple[int, int]]) -> bool:
        after: dict[int, list[int]] = {}
        for p, q in edges:
            after.setdefault(p, []).append(q)
        forward: dict[tuple[int, int], list[tuple[int, int]]] = {}
        backward: dict[tuple[int, int], list[tuple[int, int]]] = {}
        todo = [(state, state) for state in after]
        seen = set(todo)
        while todo:
            pair = p, q = todo.pop()
            for new in product(after.get(p, ()), after.get(q, ())):
                if not self._chars[new[0]] & self._chars[new[1]]:
                    continue
                forward.setdefault(pair, []).append(new)
                backward.setdefault(new, []).append(pair)
                if new not in seen:
                    seen.add(new)
                    todo.append(new)
        if all(p == q for p, q in seen):
            return False
        return any(
            p != q
            for state in after
            for p, q in _reachable((state, state), forward) & _reachable((state, state), backward)
        )

    def _adjacency(self) -> str | None:
        """Return two loops, one after the other, that can share a text."""
        outer = [
            loop
            for loop in self._loops
            if not any(
                loop is not other and set(loop[1]) <= set(other[1]) for other in self._loops
            )
        ]
        ways: dict[int, int] = {}
        for index, (node, states, own) in reversed(list(enumerate(outer))):
            ways[index] = min(own, _UNLIMITED)
            for later, (next_node, next_states, next_own) in enumerate(outer):
                if later <= index or not self._can_share(states, next_states):
                    continue
                total = min(own, _UNLIMITED) * ways[later]
                if min(own, next_own) > MAX_WAYS or total > MAX_WAYS:
                    both = f"`{_text([node])}` and `{_text([next_node])}`"
                    return f"the adjacent quantifiers {both} can match the same text"
                ways[index] = max(ways[index], total)
        return None

    def _can_share(self, states: range, later: range) -> bool:
        both = {*states, *later}
        after: dict[int, list[int]] = {}
        for p, q in self._edges:
            if p in both and q in both:
                after.setdefault(p, []).append(q)
        starts = product(states, later)
        return any(
            self._leads_on(p, q, after, (states, both, later))
            for p, q in starts
            if self._chars[p] & self._chars[q]
        )

    def _leads_on(
        self, p: int, q: int, after: dict[int, list[int]], within: tuple[Any, Any, Any]
    ) -> bool:
        """Return whether one text leads from `p` to `p`, from `p` to `q`, and from `q` to `q`."""
        start, end = (p, p, q), (p, q, q)
        seen, todo = {start}, [start]
        while todo:
            p1, p2, p3 = todo.pop()
            for new in product(after.get(p1, ()), after.get(p2, ()), after.get(p3, ())):
                is_new = new not in seen and all(s in w for s, w in zip(new, within, strict=True))
                if not is_new or not frozenset.intersection(*(self._chars[s] for s in new)):
                    continue
                if new == end:
                    return True
                seen.add(new)
                todo.append(new)
        return False


def _reachable(start: Any, after: dict[Any, list[Any]]) -> set[Any]:
    seen, todo = {start}, [start]
    while todo:
        for new in after.get(todo.pop(), ()):
            if new not in seen:
                seen.add(new)
                todo.append(new)
    return seen


def _ways(nodes: Iterable[Node]) -> int:
    """Return an upper bound of the ways in which an expression can match one text."""
    total = 1
    for node in nodes:
        name, value = str(node[0]), node[1]
        if name in _REPEATS:
            least, most, body = value
            each = _ways(body) if most <= MAX_WAYS else _TOO_MANY
            own = (int(most) - int(least) + 1) * each ** min(
                int(most), MAX_WAYS.bit_length() if each > 1 else 1
            )
        elif name == "BRANCH":
            own = sum(map(_ways, value[1]))
        else:
            own = max(map(_ways, _bodies(node)), default=1)
        total = min(total * own, _TOO_MANY)
    return total


def _may_vary(node: Node) -> bool:
    """Return whether a node can match in more than one way."""
    name, value = str(node[0]), node[1]
    return name == "BRANCH" or (name in _REPEATS and value[0] != value[1])


def _text(nodes: Sequence[Node]) -> str:
    """Return an expression as text, nearly as it was written."""
    texts = [
        f"(?:{_node_text(node)})"
        if str(node[0]) == "BRANCH" and len(nodes) > 1
        else _node_text(node)
        for node in nodes
    ]
    return "".join(texts)


def _node_text(node: Node) -> str:
    name, value = str(node[0]), node[1]
    text = "…"
    if name in _REPEATS:
        suffix = {"MIN_REPEAT": "?", "POSSESSIVE_REPEAT": "+"}.get(name, "")
        text = _group_text(value[2]) + _quantifier_text(value[0], value[1]) + suffix
    elif name == "SUBPATTERN":
        text = f"({_text(value[3])})"
    elif name == "BRANCH":
        text = "|".join(map(_text, value[1]))
    elif name == "IN":
        text = "".join(map(_set_text, value))
        text = text if len(value) == 1 and str(value[0][0]) == "CATEGORY" else f"[{text}]"
    elif name == "NOT_LITERAL":
        text = f"[^{re.escape(chr(value))}]"
    elif name in {"LITERAL", "ANY"}:
        text = re.escape(chr(value)) if name == "LITERAL" else "."
    return text


def _set_text(item: Node) -> str:
    name, value = str(item[0]), item[1]
    if name == "RANGE":
        return "-".join(re.escape(chr(end)) for end in value)
    if name == "CATEGORY":
        return _CATEGORIES[str(value)]
    return "^" if name == "NEGATE" else re.escape(chr(value))


def _group_text(body: Sequence[Node]) -> str:
    text = _text(body)
    is_single = len(body) == 1 and str(body[0][0]) not in {"BRANCH", *_REPEATS}
    return text if is_single else f"(?:{text})"


def _quantifier_text(least: int, most: Any) -> str:
    short = {(0, 1): "?", (0, _parser.MAXREPEAT): "*", (1, _parser.MAXREPEAT): "+"}
    if (least, most) in short:
        return short[least, most]
    if least == most:
        return f"{{{least}}}"
    return f"{{{least},{'' if most == _parser.MAXREPEAT else most}}}"
