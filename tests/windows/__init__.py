"""Views with windows: how events are added to them, and what their features are."""
