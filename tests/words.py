"""Check the vocabulary of the project: `python -m tests.words [PATH ...]`.

Names and prose use the standard terms of the field and plain technical English. Each rule below is a
regular expression with the words to use instead. It applies to code, comments, messages and pages alike.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATHS = ("src", "docs", "examples", "README.md", "featurerepo.yaml", "Makefile", ".ci")
SUFFIXES = {".py", ".md", ".yaml", ".js", ".html", ".css", ".sql", ".sh", ".toml", ""}
VENDORED = {"vendor", "__pycache__", ".featurekit", "data"}

RULES = {
    # Words that obscure who does what.
    r"told|tells?|telling": "say, report, send, return or contain",
    r"nobody|no one": "name the role, or use the passive voice",
    r"somebody|someone|anybody|anyone|everybody": "name the role: a caller, a client, a user",
    r"whoever": "the caller, the process that ...",
    r"whatever": "any, regardless of",
    r"likewise": "also",
    r"in the place of": "instead of",
    r"as it came|as they came": "raw, unchanged",
    r"for ever": "forever, or name the lifetime",
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix, repair",
    r"spoil(s|t|ed)?": "affect, invalidate",
    r"so many": "state the number, or `many`",
    r"(?<!there )(is|are|was) no (?!longer\b|more\b|larger\b|other\b|such\b|way\b|need\b)\w+": "is not a ...",
    r"is to be (?!found\b)\w+": "must be, will be",
    r"what is (told|there|asked)": "name the thing",
    # Private vocabulary of version 0.1; docs/glossary.md has the terms that replaced it.
    r"doors?": "store handle",
    r"errands?": "routed requests",
    r"parcels?": "node batch",
    r"whereabouts": "primary tracker",
    r"patience": "deadline",
    r"census": "user count",
    r"tall(y|ies)": "counters",
    r"bur(y|ies|ied)": "dead-letter an event",
    r"beats": "heartbeats",
}
PATTERN = re.compile(
    "|".join(rf"(?P<r{i}>\b(?:{rule})\b)" for i, rule in enumerate(RULES)), re.IGNORECASE
)


def files(paths: tuple[str, ...]) -> Iterator[Path]:
    """Yield the text files below some paths, without vendored ones."""
    for path in map(ROOT.joinpath, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            parts = file.relative_to(ROOT).parts
            if file.is_file() and file.suffix in SUFFIXES and not VENDORED.intersection(parts):
                yield file


def findings(path: Path) -> Iterator[str]:
    """Yield one line per word to replace, as `path:line:column: ...`."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for match in PATTERN.finditer(line.replace("_", " ")):
            advice = list(RULES.values())[int(str(match.lastgroup)[1:])]
            place = f"{path.relative_to(ROOT)}:{number}:{match.start() + 1}"
            yield f"{place}: {match[0]!r}: write instead: {advice}"


def main(paths: tuple[str, ...]) -> int:
    """Print all findings; return 1 if there are any."""
    found = [line for path in files(paths or PATHS) for line in findings(path)]
    print("\n".join(found) or "words: no findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
