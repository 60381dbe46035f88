"""Functions from an entity, the value of its join keys, to the key of its hash.

For a single string or integer join key, the function is one generated expression; everything else
takes the plain path, which also words the errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from featurekit.errors import FeatureKitError, RequestError, ValueRefusedError
from featurekit.keys import KeyPlan
from featurekit.lower.build import build
from featurekit.types import codec_of

KeyFunction = Callable[[object], bytes]
"""Returns the key of an entity. An entity is the value of its join key; with several join keys, a
tuple in declared order or a dict by name."""


def key_function(plan: KeyPlan) -> KeyFunction:
    """Return the function from an entity to its key.

    Raises (the function):
        RequestError: A join key is missing or unknown.
        ValueRefusedError: A join key has another type, or is empty.
    """

    def key_of_any(entity: object) -> bytes:
        values = join_key_values(plan, entity)
        return plan.key([join_key_text(plan, i, value) for i, value in enumerate(values)])

    if not plan.join_keys:
        return global_key_function(plan)
    inline = codec_of(plan.join_keys[0].dtype).encoder_expression(None, None)
    if len(plan.join_keys) > 1 or plan.hash_tag_index is not None or inline is None:
        return key_of_any
    source = (
        "def key(v):\n"
        f" try:\n  data = {inline} else None\n"
        " except UnicodeEncodeError:\n  data = None\n"
        " return PREFIX + data if data else key_of_any(v)\n"
    )
    return build("key", source, {"PREFIX": plan.entity_prefix.encode(), "key_of_any": key_of_any})


def global_key_function(plan: KeyPlan) -> KeyFunction:
    """Return the function to the one key of a view without an entity.

    Raises (the function):
        RequestError: An entity is given.
    """
    key = plan.key(())

    def global_key(entity: object) -> bytes:
        if entity not in (None, (), {}):
            raise RequestError(
                f"the view has no entity, got {entity!r}", hint="pass () or {} as the entity"
            )
        return key

    return global_key


def join_key_values(plan: KeyPlan, entity: object) -> tuple[object, ...]:
    """Return the values of an entity's join keys, in declared order."""
    names = [k.name for k in plan.join_keys]
    if isinstance(entity, Mapping):
        if set(entity) != set(names):
            raise RequestError(
                f"the join keys of {plan.entity} are {', '.join(names)}; "
                f"got {', '.join(map(str, entity)) or 'none'}"
            )
        return tuple(entity[name] for name in names)
    if len(names) == 1:
        return (entity,)
    if not isinstance(entity, tuple | list) or len(entity) != len(names):
        raise RequestError(
            f"{plan.entity} has the join keys {', '.join(names)}; got {entity!r}",
            hint="pass a tuple in that order, or a dict",
        )
    return tuple(entity)


def join_key_text(plan: KeyPlan, index: int, value: object) -> str:
    """Return the text of one join key, checked."""
    join_key = plan.join_keys[index]
    where = f"join key {join_key.name}"
    try:
        text = codec_of(join_key.dtype).encode(value).decode()
    except ValueRefusedError as error:
        raise ValueRefusedError(error.message, where=where, hint=error.hint) from error
    if not text:
        raise ValueRefusedError("must not be empty", where=where)
    return text


def entity_key(plan: KeyPlan, entity: object) -> bytes:
    """Return the key of an entity: the value of its join key, several values, or its id as text.

    Raises:
        RequestError: A join key is missing or unknown.
        ValueRefusedError: A join key has another type, or is empty.
    """
    if isinstance(entity, str):
        entity = parse_entity_id(plan, entity)
    return key_function(plan)(entity)


def entity_key_test(plan: KeyPlan) -> Callable[[bytes], bool]:
    """Return the function that says whether an entity can have a key."""
    head, key_of = plan.entity_prefix.encode(), key_function(plan)

    def is_entity_key(key: bytes) -> bool:
        try:
            return key_of(parse_entity_id(plan, key.removeprefix(head).decode())) == key
        except (FeatureKitError, UnicodeDecodeError):
            return False

    return is_entity_key


def parse_entity_id(plan: KeyPlan, text: str) -> object:
    """Return the entity with an id as it stands in a key: parts joined by `:`, escaped.

    Braces and `%` that cannot stand so in a key are taken literally.

    Raises:
        RequestError: The id does not have one part for each join key.
        ValueRefusedError: A part does not fit its join key.
    """
    if not plan.join_keys and not text:
        return ()
    if not plan.join_keys:
        raise RequestError(f"'{text}' is not an id: the view has no entity", hint="leave it out")
    parts = text.split(":") if len(plan.join_keys) > 1 else [text]
    if len(parts) != len(plan.join_keys):
        names = ":".join(k.name for k in plan.join_keys)
        raise RequestError(f"'{text}' is not an id of {plan.entity}", hint=f"its ids are {names}")
    if plan.hash_tag_index is not None:
        tag = re.fullmatch(r"\{([^{}]+)\}", parts[plan.hash_tag_index])
        if tag:
            parts[plan.hash_tag_index] = tag[1]
    if plan.escapes:
        originals = {escaped: character for character, escaped in plan.escapes.items()}
        pattern = "|".join(originals)
        parts = [re.sub(pattern, lambda escape: originals[escape[0]], part) for part in parts]
    pairs = zip(plan.join_keys, parts, strict=True)
    values = tuple(codec_of(join_key.dtype).parse(part) for join_key, part in pairs)
    return values if len(values) > 1 else values[0]
