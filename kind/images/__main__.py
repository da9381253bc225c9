"""Entry point of ``python3 kind/images``: put the project root on the path and run the command line."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # This folder's module names must not shadow anything, so the root replaces it as the first entry.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from kind.images.cli import main

    sys.exit(main())
