"""JSON responses for values and errors."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy
import pytest

from featurekit.errors import (
    DefinitionError,
    FeatureKitError,
    LockedError,
    Problem,
    RegistryError,
    RequestError,
    StoreError,
    StoreUnavailableError,
    UnknownNameError,
    ValueRefusedError,
)
from featurekit.server.responses import error_response, json_bytes

EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1.50"), '"1.50"'),
        (Decimal("1E+3"), '"1000"'),
        (datetime(2026, 11, 22, 8, 30, tzinfo=UTC), '"2026-11-22T08:30:00Z"'),
        (datetime(2026, 11, 22, 8, 30, 0, 5, tzinfo=EAST), '"2026-11-22T06:30:00.000005Z"'),
        (date(2026, 11, 22), '"2026-11-22"'),
        (b"\x00\xff", '"AP8="'),
        (numpy.array([0.5, 1.5], dtype="<f4"), "[0.5,1.5]"),
        (2**63 - 1, "9223372036854775807"),
        (2**200, str(2**200)),
        ([2**200, math.nan], f"[{2**200},null]"),
        (math.nan, "null"),
        (-math.inf, "null"),
        ({1: frozenset({"b", "a"})}, '{"1":["a","b"]}'),
        ("\ud800", '"\\ud800"'),
    ],
)
def test_values_that_json_lacks_are_text(value: object, text: str) -> None:
    assert json_bytes(value).decode() == text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownNameError("x"), 404),
        (RequestError("x"), 422),
        (ValueRefusedError("x"), 422),
        (LockedError("x"), 409),
        (StoreError("x"), 502),
        (StoreUnavailableError("x"), 503),
        (RegistryError("x"), 503),
    ],
)
def test_the_status_of_an_error_separates_client_and_server_errors(
    error: FeatureKitError, status: int
) -> None:
    response = error_response(error)
    assert response.status_code == status
    assert ("retry-after" in response.headers) == (status == 503)


def test_an_error_is_one_document() -> None:
    response = error_response(UnknownNameError.among("entity", "usr", ["user"], where="a:1"))
    assert bytes(response.body).decode() == (
        '{"error":{"type":"UnknownNameError","message":"unknown entity \'usr\'","where":"a:1",'
        '"hint":"did you mean \'user\'? known: user"}}'
    )


def test_definition_errors_list_every_problem() -> None:
    response = error_response(DefinitionError([Problem("a.yaml:1:2", "wrong")]))
    assert b'"problems":[{"where":"a.yaml:1:2","message":"wrong","hint":"",' in response.body
