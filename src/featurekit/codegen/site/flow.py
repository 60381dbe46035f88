"""The diagram of where data comes from and which services read it: sources, views, services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.codegen.catalog import source_text, view_kind
from featurekit.codegen.site.html import Html, el
from featurekit.codegen.site.names import Site, page_of
from featurekit.models import FeatureService, FeatureView
from featurekit.models.definitions import AnySource

MOST_VIEWS = 40
"""More views than this do not fit into one diagram."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A box of the diagram: its identity, texts, colour and address."""

    key: str
    label: str
    note: str
    kind: str
    href: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes in pixels, and how many characters fit into a box."""

    name: str
    width: int
    box: int
    characters: int
    height: int = 42
    gap: int = 12

    def left(self, column: int) -> float:
        """Return where a column begins."""
        return 1 + column * (self.width - 2 - self.box) / 2


_LAYOUTS = (_Layout("wide", 1040, 268, 32), _Layout("narrow", 358, 106, 14, height=38, gap=9))


def flow_diagram(
    site: Site, views: Sequence[FeatureView], root: str, only: FeatureService | None = None
) -> Html | None:
    """Return the diagram of some views, once for wide and once for narrow screens.

    Args:
        site: The site.
        views: The views.
        root: The way to the root of the site.
        only: The only service to show; by default all that read the views.

    Returns:
        `None` if there are no views, or more than fit.
    """
    if not 0 < len(views) <= MOST_VIEWS:
        return None
    edges: list[tuple[str, str]] = []
    sources: dict[str, _Node] = {}
    services: dict[str, _Node] = {}
    nodes = sorted(views, key=lambda view: (view.entity or "", view.name))
    for view in nodes:
        source = _source_node(view)
        sources.setdefault(source.key, source)
        edges.append((source.key, _key(view)))
        for service in [only] if only else site.services_of_view[view.name]:
            services.setdefault(service.name, _service_node(service, root))
            edges.append((_key(view), services[service.name].key))
    columns = (
        [*sources.values()],
        [_view_node(view, root) for view in nodes],
        [*services.values()],
    )
    return el("div", {"class": "flow"}, [_svg(columns, edges, each) for each in _LAYOUTS])


def _key(view: FeatureView) -> str:
    return f"view {view.name}"


def _view_node(view: FeatureView, root: str) -> _Node:
    count = len(view.fields_)
    note = f"{view_kind(view)}, {count} field{'s' if count > 1 else ''}"
    return _Node(_key(view), view.name, note, view_kind(view), page_of("view", view.name, root))


def _service_node(service: FeatureService, root: str) -> _Node:
    href = page_of("service", service.name, root)
    return _Node(f"service {service.name}", service.name, "service", "service", href)


def _source_node(view: FeatureView) -> _Node:
    source = view.ingestion.source
    if source is None:
        return _Node(
            "source", "a program", "write API", "source", title="A program writes the rows."
        )
    text = source_text(source)
    return _Node(f"source {text}", _short_location(source), source.type, "source", title=text)


def _short_location(source: AnySource) -> str:
    """Return the part of a source's location that identifies it: the last of a path."""
    for key in ("path", "query_file", "table", "callable", "stream", "topic"):
        value = getattr(source, key, None)
        if value:
            texts = [value] if isinstance(value, str) else list(value)
            more = f" +{len(texts) - 1}" if len(texts) > 1 else ""
            return texts[0].rstrip("/").rpartition("/")[2] + more
    return "SQL query"


def _svg(
    columns: Sequence[Sequence[_Node]], edges: Sequence[tuple[str, str]], layout: _Layout
) -> Html:
    pitch = layout.height + layout.gap
    height = max(map(len, columns)) * pitch - layout.gap + 2
    places: dict[str, tuple[float, float]] = {}
    for index, nodes in enumerate(columns):
        top = (height - (len(nodes) * pitch - layout.gap)) / 2
        for row, node in enumerate(nodes):
            places[node.key] = (layout.left(index), top + row * pitch)
    return el(
        "svg",
        {
            "class": f"flow-{layout.name}",
            "viewBox": f"0 0 {layout.width} {height:g}",
            "width": str(layout.width),
            "height": f"{height:g}",
            "role": "group",
            "aria-label": "Sources, views and the services that read them",
        },
        [_edge(places[start], places[end], (start, end), layout) for start, end in edges],
        [_box(node, places[node.key], layout) for nodes in columns for node in nodes],
    )


def _edge(
    start: tuple[float, float], end: tuple[float, float], keys: tuple[str, str], layout: _Layout
) -> Html:
    x1, y1 = start[0] + layout.box, start[1] + layout.height / 2
    x2, y2 = end[0], end[1] + layout.height / 2
    middle = (x1 + x2) / 2
    path = f"M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"
    return el("path", {"class": "edge", "d": path, "data-from": keys[0], "data-to": keys[1]})


def _box(node: _Node, place: tuple[float, float], layout: _Layout) -> Html:
    x, y = place
    pad = layout.box / 24 + 2
    first, second = _lines(layout, node)
    kinds = ("node-label", "node-note" if second == node.note else "node-label")
    texts = [
        el(
            "text",
            {"class": kind, "x": f"{x + pad:g}", "y": f"{y + layout.height * part:g}"},
            line,
        )
        for kind, line, part in zip(kinds, (first, second), (0.43, 0.8), strict=True)
    ]
    box = {"x": f"{x:g}", "y": f"{y:g}", "width": str(layout.box), "height": str(layout.height)}
    title = el("title", None, node.title or node.label)
    group = el(
        "g",
        {"class": f"node node-{node.kind}", "data-node": node.key},
        title,
        el("rect", box | {"rx": "8"}),
        texts,
    )
    return el("a", {"href": node.href}, group) if node.href else group


def _lines(layout: _Layout, node: _Node) -> tuple[str, str]:
    """Return the two lines of a box: a label that is too long takes both."""
    if len(node.label) <= layout.characters:
        return node.label, node.note
    head = node.label[: layout.characters]
    cut = head.rfind("_") + 1 or layout.characters
    rest = node.label[cut:]
    short = len(rest) <= layout.characters
    return node.label[:cut], rest if short else rest[: layout.characters - 1] + "…"
