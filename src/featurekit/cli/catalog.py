"""The catalog: which commands there are, in the order and the words of `featurekit --help`.

It is all that `--help` reads; a test holds these words equal to the commands' own.
"""

from __future__ import annotations

SECTIONS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "Define",
        {
            "init": "Begin a repository that works at once.",
            "validate": "Check the definitions and report all that is wrong.",
            "plan": "Show what apply would change.",
            "apply": "Make the registry say what the definitions say.",
            "schema": "Print the JSON Schema of the YAML files, for editors.",
        },
    ),
    (
        "Fill",
        {
            "materialize": "Fill the online store from batch sources.",
            "write": "Write rows of JSON from standard input into a batch view.",
            "stream": "Push events into stream views, run the workers that do, or see what did not fit.",
        },
    ),
    (
        "Read",
        {
            "get": "Read features of entities, as a model would.",
            "inspect": "Show all that is stored for one entity.",
        },
    ),
    (
        "Serve",
        {
            "serve": "Serve features over HTTP, until interrupted.",
        },
    ),
    (
        "Diagnostics",
        {
            "list": "List entities, views, services or fields, or the last loads or applies.",
            "describe": "Tell everything about an entity, view, service or field.",
            "status": "Show when each view was last written, and which are late.",
        },
    ),
    (
        "Tend",
        {
            "demo": "Show what expires and what stays, on a page of its own.",
            "doctor": "Find out whether everything here works together.",
            "bench": "Measure reads and writes on this machine and store.",
            "embedded": "Start, stop or look at the embedded server.",
            "reset": "Delete stored features.",
        },
    ),
)

COMMANDS: dict[str, str] = {name: text for _, part in SECTIONS for name, text in part.items()}
