"""The OpenAPI document of a server, generated from the registry, and the page that shows it."""
