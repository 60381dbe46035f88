"""What is generated from definitions and models: so far the reference of their keys."""
