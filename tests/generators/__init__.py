"""Tests of what `featurekit generate` writes."""
