"""Errors as Feast's client reads them: JSON inside a JSON string, with the class to raise."""

from __future__ import annotations

import json

from starlette.responses import Response

from featurekit.errors import UnknownNameError, name_hint
from featurekit.plan import RepoPlan
from featurekit.server.answers import json_response


def unknown_view(repo: RepoPlan, name: str) -> Response:
    """404, which the client raises as Feast's own exception."""
    text = f"Feature view {name} does not exist in project {repo.project}"
    hint = name_hint(name, [view.name for view in repo.views])
    return _error("FeatureViewNotFoundException", f"{text}; {hint}", 404)


def unknown_service(repo: RepoPlan, name: str) -> Response:
    """The same for a feature service."""
    text = f"Feature service {name} does not exist in project {repo.project}"
    hint = name_hint(name, [service.name for service in repo.services])
    return _error("FeatureServiceNotFoundException", f"{text}; {hint}", 404)


def unknown_push_source(repo: RepoPlan, name: str) -> Response:
    """422, as Feast's server has it."""
    hint = name_hint(name, [view.name for view in repo.views])
    text = f"Unable to find push source '{name}'; a feature view is expected, {hint}"
    return _error("PushSourceNotFoundException", text, 422)


def unknown_name(error: UnknownNameError) -> Response:
    """404 for any other name, as that of a feature."""
    text = f"{error.where}: {error.message}" if error.where else error.message
    return _error("FeastObjectNotFoundException", f"{text}; {error.hint}", 404)


def _error(name: str, message: str, status: int) -> Response:
    detail = json.dumps({"module": "feast.errors", "class": name, "message": message})
    return json_response(detail, status)
