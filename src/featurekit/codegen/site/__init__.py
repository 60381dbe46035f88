"""A static site of a registry: `featurekit generate docs`.

Plain HTML files with relative links: they work from a disk, from any web server and without network.
Scripts add the search and the choice of colours; without them, everything can be read.
"""

from __future__ import annotations

from featurekit.codegen.site.site import site_files

__all__ = ["site_files"]
