"""Functions and expressions that check and encode the value of one field.

`field_encoder` is the reference and words the errors. `encoder_expression` is the form for
generated functions: it encodes common values inline and calls the reference for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from featurekit.constraints import Constraints, constraint_tests
from featurekit.errors import ValueRefusedError
from featurekit.plan import FieldPlan
from featurekit.types import codec_of

Encode = Callable[[object], bytes | None]

ENCODE_ERRORS = (TypeError, UnicodeEncodeError)
"""What an encoder expression raises for a value that the reference must judge."""


def field_encoder(field: FieldPlan) -> Encode:
    """Return the function from a value or `None` to its checked bytes or `None`.

    Raises (the function):
        ValueRefusedError: The value does not fit; `where` names the field.
    """
    codec = codec_of(field.dtype)
    encode, required = codec.encode, field.constraints.required
    tests = constraint_tests(codec, field.constraints)

    def encode_checked(value: object) -> bytes | None:
        if value is None:
            if required:
                raise ValueRefusedError(
                    "null is not allowed; the field is required", where=field.name
                )
            return None
        try:
            data = encode(value)
        except ValueRefusedError as error:
            raise ValueRefusedError(error.message, where=field.name, hint=error.hint) from error
        for test in tests:
            if (violation := test(value, data)) is not None:
                raise ValueRefusedError(violation, where=field.name)
        return data

    return encode_checked


def encoder_expression(field: FieldPlan, name: str) -> tuple[str, dict[str, object]]:
    """Return an expression for the bytes of the variable `v`, and the globals that it uses.

    Args:
        field: The field; `v` holds a value or `None`.
        name: A free name for the reference.
    """
    inline = None
    constraints = field.constraints
    if replace(constraints, min=None, max=None, required=False) == Constraints():
        codec = codec_of(field.dtype)
        inline = codec.encoder_expression(constraints.min, constraints.max)
    expression = f"({inline} else {name}(v))" if inline else f"{name}(v)"
    return expression, {name: field_encoder(field)}
