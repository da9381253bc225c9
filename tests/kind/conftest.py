"""Makes the folder `kind/` importable as it is when its programs run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
