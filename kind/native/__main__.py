"""Runs the command line: `python3 kind/native COMMAND`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from kind.native.cli import main  # noqa: E402 (the path above makes it importable)

if __name__ == "__main__":
    sys.exit(main())
