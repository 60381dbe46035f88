"""`python -m featurekit`, the same as the command `featurekit`."""

from __future__ import annotations

from featurekit.cli import main

if __name__ == "__main__":
    main()
