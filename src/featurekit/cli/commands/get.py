"""`featurekit get`."""

from __future__ import annotations

import click

from featurekit.cli.context import Session, session_command
from featurekit.cli.durations import duration, named_duration
from featurekit.cli.output import BAD, show_json, show_note
from featurekit.cli.result_tables import answer_document, show_answer
from featurekit.cli.values import entity_rows
from featurekit.repo import FeatureStore


@session_command("get")
@click.argument("features", metavar="SERVICE|VIEW[:FIELD]...", nargs=-1, required=True)
@click.option(
    "--entity",
    "entities",
    metavar="NAME=VALUE[,NAME=VALUE]",
    multiple=True,
    required=True,
    help="Whose features: join keys with their values. Repeat it for more entities.",
)
@click.option("--freshness", is_flag=True, help="Tell how long each value has to live.")
@click.option(
    "--max-age",
    "ages",
    type=named_duration,
    metavar="VIEW=2m",
    multiple=True,
    help="How old values of a view may be; older ones are stale. Repeat it for more views.",
)
@click.option(
    "--timeout", "timeout_ms", type=duration, metavar="50ms", help="How long it may take in all."
)
@click.option(
    "--partial", is_flag=True, help="Show rows whose server is away as unavailable, and the rest."
)
@click.option("--full-feature-names", is_flag=True, help="Name features view__field.")
def command(
    session: Session,
    *,
    features: tuple[str, ...],
    entities: tuple[str, ...],
    freshness: bool,
    ages: tuple[tuple[str, int], ...],
    timeout_ms: int | None,
    partial: bool,
    full_feature_names: bool,
) -> int:
    """Read features of entities, as a model would.

    Give one feature service, or any number of views and fields. Exits with 1 if an entity could
    not be read; a value that is missing is an answer.

    \b
    featurekit get fraud_v1 --entity user_id=u0001
    featurekit get fraud_v1 --entity user_id=u0001 --max-age user_activity=2m --timeout 50ms
    featurekit get route:delay_avg --entity origin=JFK,dest=LAX --entity origin=JFK,dest=SFO
    """  # noqa: D301 - click reads the backspace
    with FeatureStore(session.repo) as store:
        services = {service.name for service in store.compiled.services}
        wanted = features[0] if len(features) == 1 and features[0] in services else list(features)
        reader = store.online_reader(
            wanted,
            full_feature_names=full_feature_names,
            freshness=freshness,
            max_age=dict(ages),
        )
        response = reader.get(
            entity_rows(reader.plan, entities),
            timeout=None if timeout_ms is None else timeout_ms / 1000,
            partial=partial,
        )
    if session.json:
        show_json(answer_document(reader.plan, response))
    else:
        show_answer(reader.plan, response)
    for index, reason in response.errors.items():
        show_note("error", f"{entities[index]}: {reason}", BAD)
    return 1 if response.errors else 0
