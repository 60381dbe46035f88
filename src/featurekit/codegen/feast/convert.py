"""Convert the document of a Feast registry to definitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from featurekit.codegen.feast.naming import (
    definition_name,
    duration_ms,
    feature_name,
    field_name,
    field_type,
    key_type,
    service_name,
    ttl_and_refresh,
)
from featurekit.codegen.feast.report import Outcome
from featurekit.codegen.feast.sources import (
    Document,
    batch_source,
    column_names,
    stream_source,
)
from featurekit.codegen.feast.yaml_text import Block, Item

_NO_ENTITY = "__dummy"
"""What Feast's document has as the entity of views without one."""

FileColumns = Callable[[Document], Mapping[str, str]]
"""Returns the columns of a source of local files with their types here; nothing if it cannot."""


@dataclass(slots=True)
class View:
    """A view that is converted.

    Attributes:
        spec: Feast's document.
        kind: What Feast calls it.
        outcome: What becomes of it.
        fields: The fields as YAML has them.
        renamed: The names of fields and join keys in Feast, by their names here.
        entity: The name of its entity here; `None` if it has none.
    """

    spec: Document
    kind: str
    outcome: Outcome
    fields: dict[str, Any] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    entity: str | None = None

    @property
    def is_stream(self) -> bool:
        """Whether events write it."""
        return bool(self.spec.get("streamSource"))


@dataclass
class Conversion:
    """The definitions of a Feast registry, converted.

    Attributes:
        document: Feast's document of the registry.
        folder: The way from the new repository to the folder of the Feast repository.
        file_columns: Looks up what the document does not say.
    """

    document: Document
    folder: PurePosixPath
    file_columns: FileColumns
    outcomes: list[Outcome] = field(default_factory=list)

    @cached_property
    def _entities(self) -> dict[str, Document]:
        """Feast's entities by name."""
        specs = self.specs("entities")
        return {spec["name"]: spec for spec in specs if spec["name"] != _NO_ENTITY}

    @cached_property
    def views(self) -> list[View]:
        """The views that have an equal here, by the names that Feast gives them."""
        kinds = (("featureViews", "feature view"), ("streamFeatureViews", "stream feature view"))
        taken: set[str] = set()
        found = [
            View(spec, kind, Outcome(kind, spec["name"], definition_name(spec["name"], taken)))
            for key, kind in kinds
            for spec in self.specs(key)
        ]
        found.sort(key=lambda view: view.is_stream)
        for view in found:
            self._add_fields(view)
        self._assign_entities(found)
        self.outcomes += [view.outcome for view in found]
        return found

    def specs(self, key: str) -> list[Document]:
        """Return the definitions of a list by name; a Python repository has no order of its own."""
        specs = [item.get("spec", item) for item in self.document.get(key, ())]
        return sorted(specs, key=lambda spec: str(spec.get("name", "")))

    def _add_fields(self, view: View) -> None:
        features = list(view.spec.get("features", ()))
        if not features:
            features = self._inferred_features(view)
        taken: set[str] = set()
        for feature in features:
            name = feature_name(feature["name"], taken)
            dtype, note = field_type(feature)
            if name != feature["name"]:
                note = f"it is `{feature['name']}` in Feast, which is not allowed here; {note}"
                view.outcome.notes.append(f"field {name}: {note.rstrip('; ')}")
            elif note:
                view.outcome.notes.append(f"field {name}: {note}")
            view.renamed[name] = feature["name"]
            extra = described(feature)
            view.fields[name] = {"type": dtype, **extra} if extra else dtype

    def _inferred_features(self, view: View) -> list[dict[str, str]]:
        """Return the features of a view without a schema: the columns of its files."""
        source = view.spec.get("batchSource", {})
        mapping = source.get("fieldMapping", {})
        others = {
            _join_key(self._entities.get(name, {}), name) for name in view.spec.get("entities", ())
        }
        others |= {source.get(key, "") for key in ("timestampField", "createdTimestampColumn")}
        columns = {mapping.get(c, c): dtype for c, dtype in self.file_columns(source).items()}
        return [
            {"name": name, "valueType": _FEAST_TYPES.get(dtype, "JSON")}
            for name, dtype in columns.items()
            if name not in others
        ]

    def _assign_entities(self, views: Iterable[View]) -> None:
        """Give each view an entity; views with the same field cannot share one."""
        fields: dict[str, dict[str, str]] = {}
        for view in views:
            names = _entity_names(view)
            if not names:
                continue
            shared = self.entity_name(names)
            owner = next((n for n in view.fields if n in fields.get(shared, {})), None)
            if owner is None:
                view.entity = shared
                fields.setdefault(shared, {}).update(
                    dict.fromkeys(view.fields, view.outcome.target)
                )
                continue
            view.entity = definition_name(f"{shared}_{view.outcome.target}", self._entity_targets)
            self._own_entities[view.entity] = names
            view.outcome.notes.append(
                f"entity {view.entity}: views of one entity share a hash here, and view "
                f"{fields[shared][owner]} has the field {owner} too; so this view has an entity of its own, with "
                "the same join keys. Remove one of the two fields to share it"
            )

    @cached_property
    def _entity_targets(self) -> set[str]:
        return set()

    @cached_property
    def _own_entities(self) -> dict[str, tuple[str, ...]]:
        """Entities that were added for one view, with Feast's entities."""
        return {}

    @cached_property
    def _shared_entities(self) -> dict[frozenset[str], tuple[str, tuple[str, ...]]]:
        return {}

    def entity_name(self, names: tuple[str, ...]) -> str:
        """Return the entity here that stands for one or several of Feast."""
        key = frozenset(names)
        if key not in self._shared_entities:
            target = definition_name("_".join(names), self._entity_targets)
            self._shared_entities[key] = (target, names)
        return self._shared_entities[key][0]

    @cached_property
    def join_keys(self) -> dict[str, str]:
        """The names of join keys here, by Feast's."""
        taken: set[str] = set()
        keys = dict.fromkeys(_join_key(spec, name) for name, spec in self._entities.items())
        return {key: field_name(key, taken) for key in keys}

    def entity_items(self) -> list[Item]:
        """Return the entities."""
        views = self.views
        used = {name for view in views for name in _entity_names(view)}
        for name in self._entities:
            if name not in used:
                self.entity_name((name,))
        groups = [*self._shared_entities.values(), *self._own_entities.items()]
        items = [self._entity_item(target, names) for target, names in groups]
        for name in used - {n for _, names in groups for n in names if len(names) == 1}:
            targets = ", ".join(target for target, names in groups if name in names)
            self.outcomes.append(
                Outcome(
                    "entity",
                    name,
                    targets,
                    [f"it is a part of {targets}: one entity has all join keys"],
                )
            )
        return items

    def _entity_item(self, target: str, names: tuple[str, ...]) -> Item:
        keys = {}
        outcome = Outcome("entity", " + ".join(names), target)
        for name in names:
            feast_key = _join_key(self._entities.get(name, {}), name)
            keys[self.key_name(feast_key)] = self._key_type(name, feast_key, outcome)
        if names and names[0] != target and target not in self._own_entities and len(names) == 1:
            outcome.notes.append(f"it is `{names[0]}` in Feast; names are lower-case here")
        extra = described(self._entities.get(names[0], {})) if len(names) == 1 else {}
        self.outcomes.append(outcome)
        return Item(Block(name=target, join_keys=keys, **extra), outcome.notes)

    def key_name(self, feast_key: str) -> str:
        """Return the name of a join key here."""
        return self.join_keys.get(feast_key) or field_name(feast_key, set())

    def _key_type(self, entity: str, key: str, outcome: Outcome) -> str:
        """Return a join key's type: that of the views, of the entity, or of the files."""
        views = [view for view in self.views if entity in _entity_names(view)]
        columns = [
            c for view in views for c in view.spec.get("entityColumns", ()) if c["name"] == key
        ]
        declared = [str(column.get("valueType", "")) for column in columns]
        declared.append(str(self._entities.get(entity, {}).get("valueType", "")))
        for name in filter(None, declared):
            if (dtype := key_type(name)) is not None:
                return dtype
        for view in views:
            source = view.spec.get("batchSource", {})
            found = self.file_columns(source).get(column_names(source, {key: key}).get(key, key))
            if found in ("string", "int64", "int32", "date"):
                return found
        name = next(filter(None, declared), "")
        reason = (
            f"{name} is not a type of join keys here" if name else "Feast's registry has no type"
        )
        outcome.notes.append(
            f"join key {key}: {reason}, so it is a string here; write the type of its values"
        )
        return "string"

    def view_items(self) -> list[Item]:
        """Return the feature views."""
        batches: dict[str | None, int] = {}
        for view in self.views:
            batches[view.entity] = batches.get(view.entity, 0) + (not view.is_stream)
        return [self._view_item(view, several=batches[view.entity] > 1) for view in self.views]

    def _view_item(self, view: View, *, several: bool) -> Item:
        spec, notes = view.spec, view.outcome.notes
        ttl_ms = duration_ms(spec.get("ttl"))
        ttl, refresh = ttl_and_refresh(ttl_ms)
        if not ttl_ms:
            notes.append(
                f"ttl: Feast keeps values without end; here they live for {ttl} after a write"
            )
        settings = Block(refresh=refresh, ttl=ttl)
        if several and view.entity is not None and not view.is_stream:
            settings["expires"] = "field"
        self._add_sources(view, settings)
        if view.outcome.target != view.outcome.name:
            notes.insert(0, f"it is `{view.outcome.name}` in Feast; names are lower-case here")
        _note_differences(spec, notes)
        keys = Block(name=view.outcome.target)
        if view.entity is not None:
            keys["entity"] = view.entity
        keys["stream" if view.is_stream else "batch"] = settings
        keys["fields"] = Block(view.fields)
        return Item(keys | described(spec), notes)  # type: ignore[arg-type]

    def _add_sources(self, view: View, settings: dict[str, Any]) -> None:
        spec, notes = view.spec, view.outcome.notes
        source = spec.get("batchSource") or {}
        keys = {_join_key(self._entities.get(name, {}), name) for name in _entity_names(view)}
        renamed = view.renamed | {self.key_name(key): key for key in sorted(keys)}
        if view.is_stream:
            events = spec["streamSource"]
            found = stream_source(events, column_names(events, renamed))
            notes += found.notes
            if found.keys:
                settings["source"] = found.keys
            source = source or events.get("batchSource") or {}
        if not source:
            return
        rows = batch_source(source, column_names(source, renamed), self.folder)
        notes += rows.notes
        if not view.is_stream:
            settings["source"] = rows.keys
        elif (
            rows.keys
            and rows.keys["type"] in ("parquet", "sql")
            and "timestamp_field" in rows.keys
        ):
            settings["batch_source"] = rows.keys
            notes.append(
                "batch_source: the history for training sets. Feast's `materialize` also loads it into the online "
                "store; here events alone write this view"
            )

    def service_items(self, derived: Sequence[View]) -> list[Item]:
        """Return the feature services that have at least one feature, of these derived views too."""
        found = {view.outcome.name: view for view in (*self.views, *derived)}
        views = {view.outcome.target for view in found.values()}
        taken = {*views}
        items = []
        for spec in self.specs("featureServices"):
            target = service_name(spec["name"], views, taken)
            outcome = Outcome("feature service", spec["name"], target)
            features = [
                each
                for f in spec.get("features", ())
                for each in self._features(f, found.get(f["featureViewName"]), outcome)
            ]
            if outcome.target != outcome.name:
                outcome.notes.insert(
                    0,
                    f"it is `{outcome.name}` in Feast; names are lower-case here, and no view has them",
                )
            self.outcomes.append(outcome)
            if not features:
                outcome.target = ""
                outcome.notes.append("none of its features has an equal here")
                continue
            keys = Block(name=outcome.target, features=features) | _logging(spec, outcome)
            items.append(Item(keys | described(spec), outcome.notes))  # type: ignore[arg-type]
        return items

    def _features(
        self, feature: Document, view: View | None, outcome: Outcome
    ) -> Iterator[str | dict[str, Any]]:
        name = feature["featureViewName"]
        columns = [column["name"] for column in feature.get("featureColumns", ())]
        if view is None:
            outcome.notes.append(f"without {name} ({', '.join(columns)}), which is left out")
            return
        here = {feast: name for name, feast in view.renamed.items()}
        fields = [here[column] for column in columns if column in here]
        is_whole = not fields or fields == list(view.fields)
        alias, key_map = feature.get("featureViewNameAlias"), feature.get("joinKeyMap") or {}
        if not alias and not key_map:
            target = view.outcome.target
            yield from [target] if is_whole else [f"{target}:{field}" for field in fields]
            return
        item: dict[str, Any] = {"view": view.outcome.target}
        if alias:
            item["as"] = definition_name(alias, set())
            outcome.notes.append(f"columns of {item['as']} are always named `{item['as']}__field`")
        if key_map:
            item["join_keys"] = {
                self.key_name(k): field_name(v, set()) for k, v in key_map.items()
            }
        yield item if is_whole else item | {"fields": fields}

    def left_out(self) -> list[str]:
        """Return comments about what has no equal here, and note it in the report."""
        comments = [
            self.leave_out("label view", spec, _LABELS) for spec in self.specs("labelViews")
        ]
        for key, kind in (("savedDatasets", "saved dataset"), ("permissions", "permission")):
            comments += [self.leave_out(kind, spec, _OTHERS[kind]) for spec in self.specs(key)]
        return comments

    def leave_out(self, kind: str, spec: Document, note: str) -> str:
        """Note in the report that something has no equal here, and return a comment that says so."""
        self.outcomes.append(Outcome(kind, str(spec.get("name", "")), "", [note]))
        return f"Left out: {kind} {spec.get('name', '')}.\n{note}.\n"


_LABELS = "Judgments of several labelers are not features here. Keep them as labels of training sets: `featurekit training-set`"
_OTHERS = {
    "saved dataset": "`featurekit training-set --output` writes a training set with its manifest",
    "permission": "Tokens of `featurekit serve` and users of the store limit access",
}
_FEAST_TYPES = {
    "string": "STRING",
    "int64": "INT64",
    "int32": "INT32",
    "float64": "DOUBLE",
    "float32": "FLOAT",
    "bool": "BOOL",
    "timestamp": "UNIX_TIMESTAMP",
    "bytes": "BYTES",
}


def _join_key(spec: Document, name: str) -> str:
    return str(spec.get("joinKey") or name)


def _entity_names(view: View) -> tuple[str, ...]:
    return tuple(name for name in view.spec.get("entities", ()) if name != _NO_ENTITY)


def described(spec: Document) -> dict[str, Any]:
    """Return the descriptive keys, without Feast's own tags."""
    tags = {
        name: text
        for name, text in (spec.get("tags") or {}).items()
        if name and not name.startswith(("feast:", "feast.io/"))
    }
    keys = {"description": spec.get("description"), "owner": spec.get("owner"), "tags": tags}
    return {name: value for name, value in keys.items() if value}


def _note_differences(spec: Document, notes: list[str]) -> None:
    if not spec.get("online", False):
        notes.append(
            "online=False: every view can be served here; do not load it to keep it offline"
        )
    if spec.get("aggregations"):
        notes.append(
            "aggregations are not computed here: write aggregated values, as `stream push` sends them"
        )
    if spec.get("userDefinedFunction") or spec.get("featureTransformation"):
        notes.append(
            "its transformation does not run here: the source must have the features already"
        )
    if spec.get("sourceViews"):
        notes.append(
            "it is computed from other views; write its rows with `write_batch`, or give it a source"
        )


def _logging(spec: Document, outcome: Outcome) -> Block:
    config = spec.get("loggingConfig")
    if not config:
        return Block()
    path = config.get("fileDestination", {}).get("path")
    rate = float(config.get("sampleRate", 1))
    if not path or rate <= 0:
        outcome.notes.append(
            "its log goes to a warehouse in Feast; `logging: {path: log/NAME}` writes Parquet files here"
        )
        return Block()
    keys: dict[str, Any] = {"path": f"{path.rstrip('/')}/{outcome.target}"}
    return Block(logging=keys if rate == 1 else keys | {"sample_rate": rate})
