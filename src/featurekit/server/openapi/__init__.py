"""OpenAPI: what the server offers, as a document made from the registry, and a page that shows it."""
