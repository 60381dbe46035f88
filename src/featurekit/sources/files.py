"""File sources: Parquet, CSV and JSON lines."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from typing_extensions import override

from featurekit.errors import SourceError, nearest
from featurekit.plan import SourcePlan, ViewPlan
from featurekit.ports import BatchSource, Scan
from featurekit.sources.formats import CSV, JSONL, PARQUET, Format
from featurekit.sources.newest import newest
from featurekit.sources.row_location import find
from featurekit.sources.schema_check import check_together
from featurekit.sources.selection import columns_of
from featurekit.sources.session import Rows, Session

FORMATS: dict[str, Format] = {"parquet": PARQUET, "csv": CSV, "jsonl": JSONL}


class FileSource(BatchSource):
    """Files of one format, in the order given; those of a folder or glob by name."""

    def __init__(self, plan: SourcePlan, root: Path, batch_rows: int) -> None:
        self.plan = plan
        self.root = root.absolute()
        self.batch_rows = batch_rows
        self.format = FORMATS[plan.type]

    @override
    def scan(self, view: ViewPlan, start_ms: int | None, end_ms: int | None) -> Scan:
        rows = self._rows(view, self._files(view))
        return newest(rows, view, self.plan, (start_ms, end_ms), self.batch_rows)

    @override
    def locate(self, view: ViewPlan, row: dict[str, object]) -> str:
        files = self._files(view)
        found = find(view, self.plan, lambda some: self._rows(view, some, named=True), files, row)
        return self.format.place(*found, dict(self.plan.options)) if found else ""

    def _rows(self, view: ViewPlan, files: Sequence[str], *, named: bool = False) -> Rows:
        where = f"feature view {view.name}"
        options = dict(self.plan.options)
        session = Session(self.root, lambda message: self.format.explain(message, files))
        with session.errors(where):
            source = self.format.source(files, options, named=named)
            columns = session.columns(source)
            used = [column for _, column in columns_of(view, self.plan)]
            if self.plan.type == "parquet" and len(files) > 1:
                check_together(session, files, used, where)
            wide_bytes = self.format.wide_bytes(session, files, used)
        return Rows(session, source, self.format.form, where, columns, wide_bytes)

    def _files(self, view: ViewPlan) -> list[str]:
        where = f"feature view {view.name}"
        found = [f for path in self.plan.paths for f in self._matches(path, where)]
        return list(dict.fromkeys(found))

    def _matches(self, path: str, where: str) -> Iterator[str]:
        """The files that a path names."""
        if "://" in path:
            yield path
            return
        full = self.root / path
        literal = full.exists()
        hits = [str(full)] if literal else sorted(glob.glob(str(full), recursive=True))  # noqa: PTH207 - absolute patterns
        files = [f for hit in hits for f in self._within(Path(hit))]
        if not files:
            raise SourceError(
                self._nothing(path, is_folder=literal), where=where, hint=_beside(full)
            )
        yield from files

    def _within(self, path: Path) -> list[str]:
        """A file itself, or those of the format in a folder and below, but for hidden ones."""
        if not path.is_dir():
            return [str(path)]
        return [
            str(f)
            for f in sorted(path.rglob("*"))
            if f.name.endswith(self.format.suffixes)
            and not any(part[0] in "._" for part in f.relative_to(path).parts)
        ]

    def _nothing(self, path: str, *, is_folder: bool) -> str:
        if is_folder:
            return f"folder {path} holds no file *{' or *'.join(self.format.suffixes)}"
        return f"no file matches {path}" if glob.has_magic(path) else f"no file {path}"


def _beside(path: Path) -> str:
    """A hint at what lies where a file was looked for."""
    parent = path.parent
    if glob.has_magic(str(parent)) or not parent.is_dir():
        return f"paths are relative to the repository's folder; there is no folder {parent.name}"
    names = [p.name for p in parent.iterdir() if not p.name.startswith(".")]
    return nearest(path.name, names) if names else f"folder {parent.name} is empty"
