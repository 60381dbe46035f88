"""All files of the site."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files

from featurekit.codegen.catalog import derived_entities
from featurekit.codegen.files import MARK, GeneratedFolder
from featurekit.codegen.site.derived_page import derived_page
from featurekit.codegen.site.names import FOLDERS, Site
from featurekit.codegen.site.page import Page, page_html
from featurekit.codegen.site.pages import (
    entity_page,
    list_pages,
    overview_page,
    registry_items,
    service_page,
)
from featurekit.codegen.site.view_page import view_page
from featurekit.models import FeatureService, FeatureView
from featurekit.models.derived import DerivedView
from featurekit.printable import printable_json
from featurekit.registry import Registry

_CONSOLE = "server/console/static"
_STYLES = (
    f"{_CONSOLE}/css/base.css",
    f"{_CONSOLE}/css/shell.css",
    f"{_CONSOLE}/css/parts.css",
    f"{_CONSOLE}/css/panels.css",
    "codegen/site/assets/site.css",
)


def site_files(registry: Registry) -> GeneratedFolder:
    """Return the site of a registry."""
    site = Site(registry)
    texts = {page.path: page_html(page, registry.project) for page in _pages(site)}
    texts["assets/site.css"] = _commented("".join(map(_asset, _STYLES)))
    texts["assets/site.js"] = _commented(_asset("codegen/site/assets/site.js"))
    texts["assets/theme.js"] = _commented(_asset(f"{_CONSOLE}/js/theme.js"))
    texts["assets/search-index.js"] = _commented(_search_index(site))
    texts["assets/favicon.svg"] = f"{_asset(f'{_CONSOLE}/favicon.svg')}<!-- {MARK} docs`. -->\n"
    return GeneratedFolder(texts, tuple(f"{folder}/*.html" for folder in FOLDERS.values()))


def _pages(site: Site) -> Iterator[Page]:
    registry = site.registry
    yield overview_page(site)
    yield from list_pages(site)
    yield from (view_page(site, view) for view in registry.feature_views)
    yield from (derived_page(site, view) for view in registry.derived_views)
    yield from (entity_page(site, entity) for entity in registry.entities)
    yield from (service_page(site, service) for service in registry.feature_services)


def _asset(path: str) -> str:
    return files("featurekit").joinpath(path).read_text(encoding="utf-8")


def _commented(text: str) -> str:
    return f"/* {MARK} docs`. */\n{text}"


def _search_index(site: Site) -> str:
    """Return a script with what the search finds: kind, name, where it is, other text, address."""
    entries = []
    for kind, name, address, model in registry_items(site):
        context = ""
        if isinstance(model, FeatureView):
            context = model.entity or ""
        elif isinstance(model, DerivedView):
            context = ", ".join(derived_entities(site.registry, model))
        elif isinstance(model, FeatureService):
            context = ", ".join(site.registry.entities_of(model))
        elif kind == "feature":
            context = address.removeprefix("views/").partition(".html")[0]
        tags = " ".join(f"{key}={text}" for key, text in model.tags.items())
        more = " · ".join(part for part in (model.description, model.owner, tags) if part)
        entries.append([kind, name, context, more, address])
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    return printable_json(f"window.featurekitIndex = [\n{lines}\n];\n")
