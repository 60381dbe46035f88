"""Feast's REST interface: the same paths and shapes, so that its clients need no change."""
