"""Asking: what the page sends, checked, as what the store is asked for.

Ids are text here, as they stand in keys: the parts of a composite id are joined by `:`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from featurekit.errors import RequestError, ValueRefusedError
from featurekit.keys import KeyPlan
from featurekit.lower.keys import parse_entity_id
from featurekit.plan import ReadGroup, ReadPlan
from featurekit.repo import FeatureStore
from featurekit.repo.serving import Features
from featurekit.runtime.reader import OnlineReader

MOST_ROWS = 100
MOST_FEATURES = 500
MOST_VALUES = 5000
MOST_ENTITIES = 1000
MOST_RUNS = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """Features that the page asks for, by name.

    Attributes:
        features: A service, or a list of features.
        plan: The same, compiled.
    """

    features: Features
    plan: ReadPlan

    @classmethod
    def of(cls, store: FeatureStore, body: object) -> Self:
        """The features of a body: `{"features": "service"}` or `{"features": ["view:field"]}`.

        Raises:
            RequestError: It is not of that form.
            UnknownNameError: There is no such service, view or field.
        """
        features = member(body, "features")
        named = isinstance(features, str) and features
        listed = isinstance(features, list) and all(isinstance(f, str) for f in features)
        if not (named or listed):
            raise RequestError("a service or a list of features is expected", where="features")
        if not features:
            raise RequestError("no feature is asked for", where="features")
        if listed and len(features) > MOST_FEATURES:
            raise RequestError(f"at most {MOST_FEATURES} features at once", where="features")
        return cls(features, store.online_reader(features, full_feature_names=True).plan)

    @property
    def groups(self) -> list[ReadGroup]:
        """The entities whose ids make up a row: the others' join keys are among theirs."""
        needed: list[ReadGroup] = []
        for group in sorted(self.plan.groups, key=lambda g: -len(g.key.join_keys)):
            known = {part.name for other in needed for part in other.key.join_keys}
            if not {part.name for part in group.key.join_keys} <= known:
                needed.append(group)
        return needed

    def reader(self, store: FeatureStore, *, freshness: bool) -> OnlineReader:
        """The reader of these features, under names that never collide."""
        return store.online_reader(self.features, full_feature_names=True, freshness=freshness)

    def rows(self, ids: Mapping[str, Sequence[str]]) -> list[dict[str, object]]:
        """Rows of join keys out of ids: for each entity as many, or one for all.

        Raises:
            RequestError: Ids are lacking, differ in number, or are no ids of their entity.
            ValueRefusedError: A part of an id does not fit its join key.
        """
        columns = {g.key.entity: list(ids.get(g.key.entity) or []) for g in self.groups}
        count = max(map(len, columns.values()))
        rows: list[dict[str, object]] = [{} for _ in range(count)]
        for group in self.groups:
            texts = columns[group.key.entity]
            texts = texts * count if len(texts) == 1 else texts
            if len(texts) != count or not texts:
                raise RequestError(
                    f"{len(texts)} ids of {group.key.entity} are given",
                    where="ids",
                    hint="give as many ids of each entity, or one for all rows",
                )
            for row, text in zip(rows, texts, strict=True):
                row.update(_keys(group.key, text, row))
        return rows


def _keys(key: KeyPlan, text: str, row: Mapping[str, object]) -> dict[str, object]:
    where = f"{key.entity} id {text!r}"
    try:
        entity = parse_entity_id(key, text)
    except ValueRefusedError as error:
        raise ValueRefusedError(error.message, where=where, hint=error.hint) from error
    parts = entity if isinstance(entity, tuple) else (entity,)
    named = dict(zip([part.name for part in key.join_keys], parts, strict=True))
    for name, value in named.items():
        if not str(value):
            raise RequestError("an empty id is no entity", where=where)
        if row.get(name, value) != value:
            raise RequestError(f"two values of {name} in one row", where=where)
    return named


def member(body: object, name: str) -> Any:
    """A member of a JSON object; `None` if it has none.

    Raises:
        RequestError: The body is no object.
    """
    if not isinstance(body, dict):
        raise RequestError("the body is a JSON object")
    return body.get(name)


def number(body: object, name: str, otherwise: int, most: int) -> int:
    """A whole number from 0 to `most` out of a body; `otherwise` if there is none.

    Raises:
        RequestError: It is something else.
    """
    value = member(body, name)
    if value is None:
        return otherwise
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise RequestError(f"a whole number from 0 to {most} is expected", where=name)
    return value


def ids_of_body(body: object) -> dict[str, list[str]]:
    """`{"ids": {"user": ["u0001"]}}`, at most `MOST_ROWS` of each.

    Raises:
        RequestError: It is not of that form.
    """
    ids = member(body, "ids")
    if not isinstance(ids, dict) or not all(map(_texts, ids.values())):
        raise RequestError("for each entity a list of ids is expected", where="ids")
    if any(len(texts) > MOST_ROWS for texts in ids.values()):
        raise RequestError(f"at most {MOST_ROWS} ids at once", where="ids")
    return ids


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
