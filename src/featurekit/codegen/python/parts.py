"""The parts of a generated module that services and views share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from featurekit.codegen.python.annotations import Annotations
from featurekit.codegen.python.imports import Imports
from featurekit.codegen.python.text import WIDTH, docstring, natural, quoted
from featurekit.keys import JoinKey
from featurekit.lower.records import Record
from featurekit.models.derived import DerivedField
from featurekit.models.fields import FieldSpec
from featurekit.plan import FieldPlan, RequestColumn
from featurekit.signatures import FeatureType, Signature
from featurekit.types import codec_of

_RESERVED = frozenset(dir(Record))
"""Attributes of every row; a feature of such a name, from an older registry, is `row["..."]` only."""

_LONGEST_INFERRED_TUPLE = 256
"""How many elements pyright infers the types of; a longer tuple is of an unknown type without an annotation."""


@dataclass
class Part:
    """The generated code of one definition.

    Attributes:
        imports: The imports that it needs.
        names: Its public names.
        lines: Its lines.
    """

    imports: Imports = field(default_factory=Imports)
    names: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def add(self, name: str, lines: Iterable[str]) -> None:
        """Add a class or an alias."""
        self.names.append(name)
        self.lines += [*lines, "", ""]

    def annotations(self, shadowed: Iterable[str] = ()) -> Annotations:
        """Return what writes annotations where some names mean something else."""
        return Annotations(self.imports, frozenset(shadowed))

    def use(self, name: str) -> str:
        """Return how to refer to a name in the module."""
        return self.imports.use(name)


@dataclass(frozen=True, slots=True)
class Column:
    """A feature with the name that it has in a row."""

    name: str
    view: str
    field: FieldPlan
    spec: FieldSpec | DerivedField

    def documentation(self) -> Iterator[str]:
        """Yield the paragraphs of the docstring of its attribute."""
        default = ""
        if self.field.default is not None:
            text = codec_of(self.field.dtype).display_text(
                codec_of(self.field.dtype).decode(self.field.default)
            )
            default = f", default {text or repr(text)}"
        deprecated = self.spec.deprecated
        if deprecated:
            reason = f": {deprecated}" if isinstance(deprecated, str) else ""
            yield f"Deprecated{reason}"
        yield self.spec.description
        yield f"`{self.field.dtype}` of {self.view}{default}"


def signature_lines(part: Part, name: str, signature: Signature) -> Iterator[str]:
    """Yield the definition of a signature."""
    part.use("Signature")
    yield f"{name} = Signature("
    yield f"    {quoted(signature.kind)},"
    yield f"    {quoted(signature.name)},"
    pairs = "".join(f"({quoted(key)}, {quoted(dtype)}), " for key, dtype in signature.join_keys)
    yield f"    join_keys=({pairs.strip() if len(signature.join_keys) == 1 else pairs.strip(', ')}),"
    yield from _features(part, "features", signature.features)
    for group in ("request", "inputs"):
        if features := getattr(signature, group):
            yield from _features(part, group, features)
    if signature.event_time:
        yield "    event_time=True,"
    yield "    fingerprint=FINGERPRINT,"
    yield ")"


def _features(part: Part, name: str, features: Sequence[FeatureType]) -> Iterator[str]:
    yield f"    {name}=("
    for feature in features:
        yield from call_lines(part.use("FeatureType"), _arguments(feature), " " * 8)
    yield "    ),"


def call_lines(name: str, arguments: Sequence[str], indent: str) -> Iterator[str]:
    """Yield a call in a list of arguments, one argument in a line if one line would be too long."""
    line = f"{indent}{name}({', '.join(arguments)}),"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"{indent}{name}("
    yield from (f"{indent}    {argument}," for argument in arguments)
    yield f"{indent}),"


def _arguments(feature: FeatureType) -> list[str]:
    arguments = [quoted(feature.name), quoted(feature.dtype)]
    arguments += [f"{name}=True" for name in ("default", "required") if getattr(feature, name)]
    if feature.one_of:
        choices = ", ".join(map(quoted, feature.one_of))
        arguments.append(f"one_of=({choices}{',' if len(feature.one_of) == 1 else ''})")
    return arguments


def row_class(
    part: Part, stem: str, columns: Sequence[Column], signature: str, about: Sequence[str]
) -> None:
    """Add the class of a row."""
    columns = [column for column in columns if column.name not in _RESERVED]
    annotations = part.annotations(column.name for column in columns)
    lines = [f"class {stem}Row({part.use('Row')}):", *docstring(about), ""]
    slots = sorted((column.name for column in columns), key=natural)
    kind = ""
    if len(slots) > _LONGEST_INFERRED_TUPLE:
        kind = f": {annotations.use('tuple')}[{annotations.use('str')}, ...]"
    lines += [f"    __slots__{kind} = (", *(f'        "{name}",' for name in slots), "    )"]
    lines += [f"    _signature = {signature}", ""]
    for column in columns:
        lines += [f"    {column.name}: {annotations.read(column.field)}"]
        lines += docstring(column.documentation())
    part.add(f"{stem}Row", lines)


def typed_dict(
    part: Part,
    name: str,
    members: Mapping[str, Callable[[Annotations], str]],
    about: Sequence[str],
    *,
    total: bool = True,
) -> None:
    """Add a `TypedDict` whose members are named like features or join keys."""
    annotations = part.annotations(members)
    base = part.use("TypedDict") + ("" if total else ", total=False")
    lines = [f"class {name}({base}):", *docstring(about), ""]
    lines += [f"    {key}: {annotation(annotations)}" for key, annotation in members.items()]
    part.add(name, lines)


def key_type(part: Part, join_keys: Sequence[JoinKey]) -> str:
    """Return the annotation of an entity: the value of its join key, or a tuple of several."""
    types = [part.annotations().key(key.dtype) for key in join_keys]
    if len(types) == 1:
        return types[0]
    return f"tuple[{', '.join(types) or '()'}]"


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return a name that is not taken, with as many `_` in front as needed."""
    known = {*taken}
    while name in known:
        name = f"_{name}"
    return name


def reader_class(
    part: Part,
    stem: str,
    join_keys: Sequence[JoinKey],
    signature: str,
    about: Sequence[str],
    request: Sequence[RequestColumn] = (),
) -> None:
    """Add the class of a reader. Its calls take the values of the request, if it needs any."""
    annotations, row = part.annotations(), f"{stem}Row"
    keys = [key.name for key in join_keys]
    me, options = free_name("self", keys), free_name("options", keys)
    sent, default = free_name("request", keys), ""
    if all(column.field.default is not None for column in request):
        default = " | None = None"
    lines = [f"class {stem}Reader({part.use('TypedReader')}[{row}]):", *docstring(about), ""]
    lines += [f"    signature = {signature}", f"    row_class = {row}"]
    one = [f"{key.name}: {annotations.key(key.dtype)}" for key in join_keys]
    many = [f"{key.name}: {part.use('Column')}[{annotations.key(key.dtype)}]" for key in join_keys]
    entity = keys[0] if len(keys) == 1 else f"({', '.join(keys)})"
    columns = f"({', '.join(keys)}{',' if len(keys) == 1 else ''})"
    option = f"{options}: {part.use('ReadOptions')} | None = None"
    text = "Read the features of one entity in one round trip."
    arguments = [entity, options]
    if request:
        one.append(f"{sent}: {stem}Request{default}")
        rows = f"{stem}Request | {part.use('Sequence')}[{stem}Request]"
        many.append(f"{sent}: {rows}{default}")
        arguments.insert(1, f"request={sent}")
    lines += call_methods("read", [me, "*", *one, option], row, arguments, text)
    if keys:
        text = "Read the features of `n` entities as `n` rows in the same order, see `read`."
        call = f"{me}._read_many({columns}, {options}{f', {sent}' if request else ''})"
        lines += _twins("read_many", [me, "*", *many, option], f"list[{row}]", call, text)
    part.add(f"{stem}Reader", lines)


def call_methods(
    name: str, parameters: Sequence[str], result: str, arguments: Sequence[str], about: str
) -> Iterator[str]:
    """Yield a method, and its form for asyncio, that pass optional options as keywords.

    Args:
        name: The name of the method; what it calls has the same name with `_` in front.
        parameters: Its parameters.
        result: The annotation of its result.
        arguments: What it passes on; the options are last.
        about: Its documentation.
    """
    me, (*given, options) = parameters[0], arguments
    call = f"({', '.join(given)})"
    with_options = f"({', '.join([*given, f'**{options}'])})"
    is_optional = any(parameter.endswith("= None") for parameter in parameters)
    for wait, head, suffix in (("", "def", ""), ("await ", "async def", "_async")):
        yield ""
        yield from method(f"{head} {name}{suffix}", parameters, result)
        text = about if not wait else f"Do the same as `{name}` without blocking the event loop."
        yield from docstring([text], " " * 8)
        if is_optional:
            yield f"        if {options} is None:"
            yield f"            return {wait}{me}._{name}{suffix}{call}"
        yield f"        return {wait}{me}._{name}{suffix}{with_options}"


def _twins(
    name: str, parameters: Sequence[str], result: str, call: str, about: str
) -> Iterator[str]:
    """Yield a method and its form for asyncio."""
    helper, _, arguments = call.partition("(")
    yield ""
    yield from method(f"def {name}", parameters, result)
    yield from docstring([about], " " * 8)
    yield f"        return {call}"
    yield ""
    yield from method(f"async def {name}_async", parameters, result)
    yield f'        """Do the same as `{name}` without blocking the event loop."""'
    yield f"        return await {helper}_async({arguments}"


def method(head: str, parameters: Sequence[str], result: str) -> Iterator[str]:
    """Yield the first lines of a method, one parameter in a line if one line would be too long."""
    line = f"    {head}({', '.join(parameters)}) -> {result}:"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"    {head}("
    yield from (f"        {parameter}," for parameter in parameters)
    yield f"    ) -> {result}:"
