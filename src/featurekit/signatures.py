"""What generated code relies on, and how it differs from a compiled registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from featurekit.errors import RegistryError
from featurekit.keys import JoinKey
from featurekit.plan import FieldPlan, ReadPlan, RepoPlan, ViewPlan
from featurekit.types import DType, codec_of, parse_dtype

LITERAL_TYPES = ("str", "int", "bool", "bytes")
"""Python types of which a value may stand in `Literal`."""

Choice = str | int | bool | bytes


@dataclass(frozen=True, slots=True)
class FeatureType:
    """A feature as generated code knows it.

    Attributes:
        name: Its name in a row.
        dtype: Its declared type.
        default: Whether it has a default, so that a row never has `None`.
        required: Whether a write of `None` is refused.
        one_of: The values allowed; empty allows any.
    """

    name: str
    dtype: str
    default: bool = False
    required: bool = False
    one_of: tuple[Choice, ...] = ()

    @classmethod
    def of(cls, name: str, field: FieldPlan) -> FeatureType:
        """Return the feature of a compiled field that has this name in a row."""
        rules, codec = field.constraints, codec_of(field.dtype)
        choices: tuple[Choice, ...] = ()
        if codec.python_type in LITERAL_TYPES:
            choices = tuple(codec.decode(choice) for choice in rules.one_of)  # type: ignore[misc]
        return cls(name, str(field.dtype), field.default is not None, rules.required, choices)

    def value_differences(self, other: FeatureType) -> Iterator[str]:
        """Yield how the type of the values of `other` differs from this one for Python."""
        old, new = parse_dtype(self.dtype), parse_dtype(other.dtype)
        if (python_type(old), old.size) != (python_type(new), new.size):
            yield f"field {self.name} is {new}, not {old}"

    def read_differences(self, other: FeatureType) -> Iterator[str]:
        """Yield what a reader of this feature would not expect of `other`."""
        yield from self.value_differences(other)
        if self.default and not other.default:
            yield f"field {self.name} has no default, so that it may be None"
        if self.one_of and not other.one_of:
            yield f"field {self.name} may be any {other.dtype}"
        elif self.one_of and (more := [x for x in other.one_of if x not in self.one_of]):
            yield f"field {self.name} may also be {', '.join(map(repr, more))}"

    def write_differences(self, other: FeatureType) -> Iterator[str]:
        """Yield which writes of this feature `other` would refuse for their type."""
        yield from self.value_differences(other)
        if other.required and not self.required:
            yield f"field {self.name} is required"
        if other.one_of and not self.one_of:
            yield f"field {self.name} must be one of {', '.join(map(repr, other.one_of))}"
        elif less := [x for x in self.one_of if x not in other.one_of and other.one_of]:
            yield f"field {self.name} may not be {', '.join(map(repr, less))}"


@dataclass(frozen=True, slots=True)
class Signature:
    """The join keys and features that generated code of a feature service or view was made for.

    Attributes:
        kind: What it is.
        name: Its name.
        join_keys: Pairs of (join key, type).
        features: The features, in order.
        event_time: Of a view: whether each row or event must have a time.
        fingerprint: The fingerprint of the registry, from which nothing differs.
        request: Of a service: the values that a caller sends along.
        inputs: Of a view with windows: the fields of an event, which are not those of a row.
    """

    kind: Literal["service", "batch", "stream"]
    name: str
    join_keys: tuple[tuple[str, str], ...]
    features: tuple[FeatureType, ...]
    event_time: bool = False
    fingerprint: str = ""
    request: tuple[FeatureType, ...] = ()
    inputs: tuple[FeatureType, ...] = ()

    @property
    def feature_list(self) -> str | tuple[str]:
        """What to read: the service, or a list with the view."""
        return self.name if self.kind == "service" else (self.name,)

    @classmethod
    def of_service(cls, plan: ReadPlan) -> Signature:
        """Return the signature of a compiled service."""
        keys = [key for group in plan.groups for key in group.key.join_keys]
        features = (FeatureType.of(column.name, column.field) for column in plan.columns)
        request = tuple(FeatureType.of(column.name, column.field) for column in plan.requests)
        return cls("service", plan.name, _pairs(keys), tuple(features), request=request)

    @classmethod
    def of_view(cls, view: ViewPlan) -> Signature:
        """Return the signature of a compiled view."""
        features = (FeatureType.of(field.name, field) for field in view.fields)
        keys, ordered = _pairs(view.key.join_keys), view.ordering == "event_time"
        inputs = view.windows.event_fields if view.windows else ()
        sent = tuple(FeatureType.of(field.name, field) for field in inputs)
        return cls(view.kind, view.name, keys, tuple(features), ordered, inputs=sent)

    def read_differences(self, plan: ReadPlan) -> list[str]:
        """Return what keeps code of this signature from reading with a plan."""
        if plan.fingerprint == self.fingerprint:
            return []
        other = Signature.of_service(plan)
        features = _feature_differences(self.features, other.features, is_read=True)
        return [*self._key_differences(other), *features, *self._request_differences(other)]

    def write_differences(self, repo: RepoPlan) -> list[str]:
        """Return what keeps code of this signature from writing into its view.

        Raises:
            UnknownNameError: The registry has no such view.
        """
        if repo.fingerprint == self.fingerprint:
            return []
        other = Signature.of_view(repo.view(self.name))
        if self.kind != other.kind:
            return [f"feature view {self.name} is a {other.kind} view, not a {self.kind} view"]
        times = ["each write needs a time"] if other.event_time and not self.event_time else []
        own, others = self.inputs or self.features, other.inputs or other.features
        known = {feature.name for feature in own}
        new = [
            f"field {feature.name} is new and required"
            for feature in others
            if feature.required and feature.name not in known
            if self.kind == "batch" or other.inputs
        ]
        features = _feature_differences(own, others, is_read=False)
        return [*self._key_differences(other), *features, *new, *times]

    def _key_differences(self, other: Signature) -> Iterator[str]:
        old, new = dict(self.join_keys), dict(other.join_keys)
        for name in dict.fromkeys([*old, *new]):
            if name not in new:
                yield f"join key {name} is gone"
            elif name not in old:
                yield f"join key {name} is new"
            elif python_type(parse_dtype(old[name])) != python_type(parse_dtype(new[name])):
                yield f"join key {name} is {new[name]}, not {old[name]}"

    def _request_differences(self, other: Signature) -> Iterator[str]:
        known = {each.name for each in self.request}
        for each in other.request:
            if each.name not in known and not each.default:
                yield f"request value {each.name} is new"
        yield from _feature_differences(self.request, other.request, is_read=False)


def _feature_differences(
    own: Iterable[FeatureType], others: Iterable[FeatureType], *, is_read: bool
) -> Iterator[str]:
    by_name = {feature.name: feature for feature in others}
    for feature in own:
        if feature.name not in by_name:
            yield f"field {feature.name} is gone"
        elif is_read:
            yield from feature.read_differences(by_name[feature.name])
        else:
            yield from feature.write_differences(by_name[feature.name])


def python_type(dtype: DType) -> str:
    """Return the annotation of a value of a type as readers return it."""
    if dtype.element:
        return f"list[{codec_of(DType(dtype.element)).python_type}]"
    return codec_of(dtype).python_type


def _pairs(join_keys: Iterable[JoinKey]) -> tuple[tuple[str, str], ...]:
    return tuple({key.name: str(key.dtype) for key in join_keys}.items())


def stale_code_error(signature: Signature, differences: list[str], module: str) -> RegistryError:
    """Return the error for generated code that does not fit the registry."""
    kind = "feature service" if signature.kind == "service" else "feature view"
    return RegistryError(
        f"the generated code of {kind} {signature.name} does not fit the registry: "
        + "; ".join(differences),
        where=module,
        hint="run `featurekit generate python` again, and check the callers with mypy or pyright",
    )
