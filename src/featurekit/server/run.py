"""Running: a site behind uvicorn, until it is asked to stop."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import uvicorn

from featurekit.repo import FeatureStore
from featurekit.server.app import create_app
from featurekit.server.auth import VARIABLE, Tokens
from featurekit.server.site import Limits, Site

PORT = 6566
"""The port of Feast's feature server."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a server runs.

    Attributes:
        repo: Where to look for `featurerepo.yaml`, from there upwards.
        host: The address to listen on.
        port: The port; 0 for any that is free.
        limits: What a request may cost.
        allow_writes: Whether the console offers what changes or destroys things.
    """

    repo: str = "."
    host: str = "127.0.0.1"
    port: int = PORT
    limits: Limits = field(default_factory=Limits)
    allow_writes: bool = False


def site_of(options: Options) -> Site:
    """The site of a repository, with the tokens of the environment."""
    return Site(
        store=FeatureStore(options.repo),
        limits=options.limits,
        tokens=Tokens.parse(os.environ.get(VARIABLE, "")),
        allow_writes=options.allow_writes,
    )


def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first."""
    app = create_app(site_of(options))
    uvicorn.run(app, host=options.host, port=options.port, lifespan="on", access_log=False)
