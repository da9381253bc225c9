"""Makes the image builder, which is no installed package, importable."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    # Last: the folder `operator` of the project must not come before the standard library's module.
    sys.path.append(str(ROOT))
