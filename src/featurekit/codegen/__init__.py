"""Code and documents generated from the definitions and models."""
