"""Convert on-demand feature views of Feast: derived views whose functions are to be written.

Functions there take and return columns of pandas; here they take and return single values. So each
feature gets a function that raises, below the source that it had, and is `invalid` until it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.codegen.feast.convert import Conversion, View, described
from featurekit.codegen.feast.naming import (
    definition_name,
    feature_name,
    field_name,
    field_type,
)
from featurekit.codegen.feast.report import Outcome
from featurekit.codegen.feast.sources import Document
from featurekit.codegen.feast.yaml_text import Block, Item, comment

MODULE = "on_demand"

_KIND = "on-demand feature view"
_TO_WRITE = (
    f"its features are invalid until their functions in {MODULE}.py are written: Feast's take columns, and these "
    "single values. An expression is better where it can say it: `expr:` instead of `callable:` and `inputs:`"
)
_NO_INPUTS = "None of its inputs has an equal here"
_HEAD = '''"""Functions of derived features, to be written.

`featurekit import-feast` made one for each feature of Feast's on-demand views, whose source is the comment
above. A function takes the `inputs` of its feature as single values, `None` where there is none, and returns one value.
Until it is written, its feature is `invalid`. What an expression can say is better said in features/views.yaml:
`expr:` instead of `callable:` and `inputs:`. After a change of this file, run `featurekit apply`.
"""
'''


@dataclass(frozen=True, slots=True)
class _Input:
    """What a function may take.

    Attributes:
        feast_name: The column's name in Feast.
        source: The stored view or the request here.
        field: Its field.
    """

    feast_name: str
    source: str
    field: str


class OnDemandViews:
    """The request data and the on-demand views of a Feast registry, converted.

    Args:
        conversion: The conversion of the stored views.

    Attributes:
        request_items: The request data.
        views: The derived views.
        view_items: Their definitions.
        comments: What is left out.
        module: The module with the functions; empty if there are none.
    """

    def __init__(self, conversion: Conversion) -> None:
        self._conversion = conversion
        self._names = {view.outcome.target for view in conversion.views}
        self._join_keys = set(conversion.join_keys.values())
        self._requests: dict[str, tuple[str, dict[str, str]]] = {}
        self._functions: set[str] = set()
        self._code: list[str] = []
        specs = conversion.specs("onDemandFeatureViews")
        self._on_demand = {spec["name"] for spec in specs}
        self.request_items = list(self._convert_requests(specs))
        self.views: list[View] = []
        self.view_items: list[Item] = []
        self.comments: list[str] = []
        for spec in specs:
            self._convert(spec)
        self.module = "".join([_HEAD, *self._code]) if self._code else ""

    def _convert_requests(self, specs: Sequence[Document]) -> Iterator[Item]:
        """Yield the request data; each value has a name of its own, since a read sends all by name."""
        taken = {*self._join_keys, "now"}
        for name, source in sorted(self._request_sources(specs).items()):
            outcome = Outcome("request source", name, definition_name(name, self._names))
            fields: dict[str, Any] = {}
            renamed: dict[str, str] = {}
            for value in source.get("requestDataOptions", {}).get("schema", ()):
                here = renamed[value["name"]] = field_name(value["name"], taken)
                fields[here] = _field_type(value, here, outcome)
            self._conversion.outcomes.append(outcome)
            if not fields:
                outcome.target = ""
                outcome.notes.append("it has no fields")
                continue
            self._requests[name] = outcome.target, renamed
            keys = Block(name=outcome.target, fields=Block(fields)) | described(source)
            yield Item(keys, outcome.notes)  # type: ignore[arg-type]

    def _request_sources(self, specs: Sequence[Document]) -> dict[str, Document]:
        """Return the request sources by name: those that are declared, and others that views have."""
        found = {
            source["name"]: source
            for source in self._conversion.specs("dataSources")
            if source.get("type") == "REQUEST_SOURCE"
        }
        for spec in specs:
            for key, source in spec.get("sources", {}).items():
                if request := source.get("requestDataSource"):
                    found.setdefault(request.get("name", key), request)
        return found

    def _convert(self, spec: Document) -> None:
        """Add the derived view of an on-demand view, with a function for each feature."""
        name = spec["name"]
        outcome = Outcome(_KIND, name, definition_name(name, self._names))
        code = _source_text(spec)
        inputs = list(self._inputs(spec, outcome))
        if not inputs or not spec.get("features"):
            note = _NO_INPUTS if not inputs else "It has no features"
            text = self._conversion.leave_out(_KIND, spec, note)
            self.comments.append(text + _indented(code))
            return
        if outcome.target != name:
            outcome.notes.append(f"it is `{name}` in Feast; names are lower-case here, and unique")
        if spec.get("writeToOnlineStore"):
            outcome.notes.append(
                "Feast computes it when rows are written; here it is computed when it is read"
            )
        outcome.notes.append(_TO_WRITE)
        self._code.append("\n\n" + comment(f"{_KIND} {name}:\n{_indented(code)}"))
        named = [each for each in inputs if re.search(rf"\b{re.escape(each.feast_name)}\b", code)]
        view = View(spec, _KIND, outcome)
        self._add_fields(view, named or inputs)
        self._conversion.outcomes.append(outcome)
        self.views.append(view)
        sources = list(dict.fromkeys(each.source for each in inputs))
        keys = Block(name=outcome.target, derived={"from": sources}, fields=Block(view.fields))
        self.view_items.append(Item(keys | described(spec), outcome.notes))  # type: ignore[arg-type]

    def _inputs(self, spec: Document, outcome: Outcome) -> Iterator[_Input]:
        for key, source in sorted(spec.get("sources", {}).items()):
            if request := source.get("requestDataSource"):
                target, renamed = self._requests.get(request.get("name", key), ("", {}))
                yield from (_Input(feast, target, here) for feast, here in renamed.items())
                continue
            name, columns = _projection(key, source)
            view = next((v for v in self._conversion.views if v.outcome.name == name), None)
            if view is None:
                reason = (
                    "another on-demand view; compute its features in the functions too"
                    if name in self._on_demand
                    else "left out"
                )
                outcome.notes.append(f"without its input {name}, which is {reason}")
                continue
            for here, feast in view.renamed.items():
                if not columns or feast in columns:
                    yield _Input(feast, view.outcome.target, here)

    def _add_fields(self, view: View, inputs: Sequence[_Input]) -> None:
        taken = set(self._join_keys)
        arguments = ", ".join(_argument_names(inputs))
        for feature in view.spec["features"]:
            name = feature_name(feature["name"], taken)
            dtype = _field_type(feature, name, view.outcome)
            function = definition_name(f"{view.outcome.target}_{name}", self._functions)
            view.renamed[name] = feature["name"]
            view.fields[name] = {
                "type": dtype,
                "callable": f"{MODULE}:{function}",
                "inputs": [f"{each.source}.{each.field}" for each in inputs],
                **described(feature),
            }
            self._code.append(
                f"\n\ndef {function}({arguments}):\n"
                f'    raise NotImplementedError("{function} is not written yet")\n'
            )


def _field_type(field: Document, name: str, outcome: Outcome) -> str:
    """Return the type of a field; what differs from Feast goes to the notes."""
    dtype, note = field_type(dict(field))
    if name != field["name"]:
        note = f"it is `{field['name']}` in Feast, which is not allowed or taken here; {note}"
    if note:
        outcome.notes.append(f"field {name}: {note.rstrip('; ')}")
    return dtype


def _projection(key: str, source: Document) -> tuple[str, set[str]]:
    """Return the view that is an input, and its columns; of an older Feast, the view itself."""
    projection: Mapping[str, Any] = source.get("featureViewProjection", {})
    older: Mapping[str, Any] = source.get("featureView", {}).get("spec", {})
    columns = projection.get("featureColumns") or older.get("features") or ()
    name = projection.get("featureViewName") or older.get("name") or key
    return str(name), {column["name"] for column in columns}


def _argument_names(inputs: Sequence[_Input]) -> list[str]:
    """Return names of arguments, each once."""
    fields = [each.field for each in inputs]
    taken: set[str] = set()
    return [
        field_name(
            each.field if fields.count(each.field) == 1 else f"{each.source}_{each.field}", taken
        )
        for each in inputs
    ]


def _source_text(spec: Document) -> str:
    function = (spec.get("featureTransformation") or spec).get("userDefinedFunction") or {}
    return str(function.get("bodyText") or "").rstrip()


def _indented(code: str) -> str:
    return "".join(f"  {line}\n" for line in code.splitlines())
