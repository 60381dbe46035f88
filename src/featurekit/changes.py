"""Changes: how one compiled repository differs from another, as data and never as text.

Each change is of one kind:

- `add`, `remove`: something is there, or no more.
- `ttl`: what is written from now on lives longer or shorter, or is due more or less often.
- `compatible`: stored bytes keep their meaning.
- `breaking`: stored bytes would mean something else, would not be found, or would keep an expiry
  that nobody declares any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Literal, TypeVar

from typing_extensions import override

from featurekit.keys import KeyPlan
from featurekit.plan import Constraints, EntityPlan, FieldPlan, RepoPlan, ServicePlan, ViewPlan
from featurekit.types import DType

Kind = Literal["add", "remove", "ttl", "compatible", "breaking"]
T = TypeVar("T", EntityPlan, ViewPlan, FieldPlan, ServicePlan)

_WIDENED = {("int32", "int64")}
"""Types of which the second reads the bytes of the first as the same values."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: its kind, what it is about, as `field user_profile:age`, and what it is."""

    kind: Kind
    subject: str
    detail: str = ""

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.subject}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Changes:
    """All differences; true if there are any."""

    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    @property
    def breaking(self) -> tuple[Change, ...]:
        """Those after which stored bytes would mean something else."""
        return tuple(change for change in self.changes if change.kind == "breaking")

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "changes": [asdict(change) for change in self.changes],
            "breaking": bool(self.breaking),
        }


def diff(old: RepoPlan | None, new: RepoPlan) -> Changes:
    """What applying `new` over `old` changes; over nothing, everything is added."""
    before = old or RepoPlan(new.project, new.prefix, "")
    return Changes(tuple(_repo(before, new)))


def _repo(old: RepoPlan, new: RepoPlan) -> Iterator[Change]:
    if old.project != new.project:
        yield Change("compatible", f"project {new.project}", f"was {old.project}")
    if old.prefix != new.prefix:
        detail = f"{old.prefix} -> {new.prefix}: nothing stored would be found"
        yield Change("breaking", "key prefix", detail)
    yield from _entities(old, new)
    yield from _views(old, new)
    yield from _services(old, new)


def _pairs(old: tuple[T, ...], new: tuple[T, ...]) -> Iterator[tuple[str, T | None, T | None]]:
    """Things of either side by name, those of the new side first, in its order."""
    before: dict[str, T] = {thing.name: thing for thing in old}
    after: dict[str, T] = {thing.name: thing for thing in new}
    for name in [*after, *(name for name in before if name not in after)]:
        yield name, before.get(name), after.get(name)


def _entities(old: RepoPlan, new: RepoPlan) -> Iterator[Change]:
    for name, before, after in _pairs(old.entities, new.entities):
        subject = f"entity {name}"
        if after is None:
            yield Change("remove", subject, "its keys stay until their last field expires")
        elif before is None:
            yield Change("add", subject)
        else:
            yield from _key(subject, before.key, after.key)


def _key(subject: str, old: KeyPlan, new: KeyPlan) -> Iterator[Change]:
    tail = "nothing stored would be found"
    types = [[part.dtype for part in key.join_keys] for key in (old, new)]
    renamed = "requests would have to use the new names"
    if old.join_keys != new.join_keys:
        shown = [
            ", ".join(f"{part.name}: {part.dtype}" for part in key.join_keys) for key in (old, new)
        ]
        effect = renamed if types[0] == types[1] else tail
        yield Change("breaking", subject, f"join keys {shown[0]} -> {shown[1]}: {effect}")
    if _tag(old) != _tag(new):
        yield Change("breaking", subject, f"hash tag {_tag(old)} -> {_tag(new)}: {tail}")


def _tag(key: KeyPlan) -> str:
    if key.hash_tag_index is not None:
        return key.join_keys[key.hash_tag_index].name
    return f"{{{key.hash_tag}}}" if key.hash_tag else "none"


def _views(old: RepoPlan, new: RepoPlan) -> Iterator[Change]:
    homes = {(v.key.entity, f.name): (v, f) for v in old.views for f in v.fields}
    retired = {(e.name, name) for e in old.entities for name in e.retired}
    stays = {(v.key.entity, f.name) for v in new.views for f in v.fields}
    swept = {v.key.entity for v in new.views if v.kind == "batch"}
    for name, before, after in _pairs(old.views, new.views):
        subject = f"feature view {name}"
        if after is None and before is not None:
            is_gone = any((before.key.entity, f.name) not in stays for f in before.fields)
            yield Change("remove", subject, _farewell(before, swept) if is_gone else "")
        elif after is not None:
            if before is None:
                yield Change("add", subject)
            else:
                yield from _view(subject, before, after)
                yield from _removed_fields(before, after, stays, _farewell(before, swept))
            yield from _fields(before, after, homes, retired)


def _farewell(view: ViewPlan, swept: set[str]) -> str:
    """What becomes of the values of a view or field that is removed."""
    if view.key.entity in swept:
        return "the next load deletes its values from each row it writes"
    return "its values stay until they expire"


def _view(subject: str, old: ViewPlan, new: ViewPlan) -> Iterator[Change]:
    if old.key.entity != new.key.entity:
        detail = f"entity {old.key.entity} -> {new.key.entity}: what is stored stays behind"
        yield Change("breaking", subject, detail)
    if old.kind != new.kind:
        detail = f"{old.kind} -> {new.kind}: stored values would keep the expiry they have"
        yield Change("breaking", subject, detail)
    elif old.expires != new.expires:
        detail = f"expires {old.expires} -> {new.expires}: stored values would keep the old one"
        yield Change("breaking", subject, detail)
    for name, was, now in (
        ("ttl", old.ttl_ms, new.ttl_ms),
        ("refresh", old.refresh_ms, new.refresh_ms),
    ):
        if was != now:
            yield Change("ttl", subject, f"{name} {_span(was)} -> {_span(now)}")
    yield from _harmless(subject, old, new)


def _harmless(subject: str, old: ViewPlan, new: ViewPlan) -> Iterator[Change]:
    if old.ordering != new.ordering:
        yield Change("compatible", subject, f"ordering {old.ordering} -> {new.ordering}")
    if (old.source, old.stream) != (new.source, new.stream):
        yield Change("compatible", subject, "another source")
    if _is_reordered(old, new):
        yield Change("compatible", subject, "another order of fields")


def _is_reordered(old: ViewPlan, new: ViewPlan) -> bool:
    names = [[field.name for field in view.fields] for view in (old, new)]
    return names[0] != names[1] and sorted(names[0]) == sorted(names[1])


def _removed_fields(
    before: ViewPlan, after: ViewPlan, stays: set[tuple[str, str]], farewell: str
) -> Iterator[Change]:
    kept = {field.name for field in after.fields}
    for field in before.fields:
        if field.name not in kept and (before.key.entity, field.name) not in stays:
            yield Change("remove", f"field {before.name}:{field.name}", farewell)


def _fields(
    before: ViewPlan | None,
    view: ViewPlan,
    homes: dict[tuple[str, str], tuple[ViewPlan, FieldPlan]],
    retired: set[tuple[str, str]],
) -> Iterator[Change]:
    """Changes of a view's fields, each held against whatever had its place in the hash."""
    for field in view.fields:
        subject = f"field {view.name}:{field.name}"
        place = (view.key.entity, field.name)
        if place in homes:
            home, old = homes[place]
            if home.name != view.name:
                yield _moved(subject, home, view)
            yield from _field(subject, (home, old), (view, field))
        elif place in retired:
            detail = "was declared before: rows not written since may hold its old values"
            yield Change("breaking", subject, detail)
        elif before is not None and before.key.entity == view.key.entity:
            yield Change("add", subject)


def _moved(subject: str, home: ViewPlan, view: ViewPlan) -> Change:
    detail = f"moves here from feature view {home.name}"
    if home.expires != view.expires:
        return Change("breaking", subject, f"{detail}: stored values would keep their expiry")
    return Change("compatible", subject, detail)


def _field(
    subject: str, old: tuple[ViewPlan, FieldPlan], new: tuple[ViewPlan, FieldPlan]
) -> Iterator[Change]:
    before, after = old[1], new[1]
    if before.dtype != after.dtype:
        detail = f"type {before.dtype} -> {after.dtype}"
        if _is_widened(before.dtype, after.dtype):
            yield Change("compatible", subject, detail)
        else:
            yield Change("breaking", subject, f"{detail}: stored bytes would mean something else")
    inherits = before.ttl_ms == old[0].ttl_ms and after.ttl_ms == new[0].ttl_ms
    own = before.ttl_ms and after.ttl_ms and not inherits
    if own and before.ttl_ms != after.ttl_ms:
        yield Change("ttl", subject, f"ttl {_span(before.ttl_ms)} -> {_span(after.ttl_ms)}")
    if before.default != after.default:
        detail = f"default {_value(before.default)} -> {_value(after.default)}"
        yield Change("compatible", subject, detail)
    for check in fields(Constraints):
        was, now = getattr(before.constraints, check.name), getattr(after.constraints, check.name)
        if was != now:
            yield Change("compatible", subject, f"{check.name} {_value(was)} -> {_value(now)}")


def _value(value: object) -> str:
    """A default or a constraint for people."""
    match value:
        case None | "" | ():
            return "none"
        case bool():
            return str(value).lower()
        case bytes():
            return value.decode(errors="backslashreplace")
        case tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return str(value)


def _is_widened(old: DType, new: DType) -> bool:
    if old.kind == new.kind == "array":
        return (old.element, new.element) in _WIDENED
    return (old.kind, new.kind) in _WIDENED


def _services(old: RepoPlan, new: RepoPlan) -> Iterator[Change]:
    for name, before, after in _pairs(old.services, new.services):
        subject = f"feature service {name}"
        if after is None:
            yield Change("remove", subject)
        elif before is None:
            yield Change("add", subject)
        elif before.features != after.features:
            yield Change("compatible", subject, _features(before, after))


def _features(old: ServicePlan, new: ServicePlan) -> str:
    gained = [
        f"+{view}:{field}" for view, field in new.features if (view, field) not in old.features
    ]
    lost = [
        f"-{view}:{field}" for view, field in old.features if (view, field) not in new.features
    ]
    return ", ".join([*gained, *lost]) or "another order of features"


def _span(duration_ms: int) -> str:
    """A duration for people, as definitions write it."""
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if duration_ms % size_ms == 0:
            return f"{duration_ms // size_ms}{unit}"
    return f"{duration_ms}ms"
