"""The HTTP feature server: online reads for any language, over the same compiled readers."""
