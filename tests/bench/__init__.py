"""Speed of kmipd and custody on one core, beside PyKMIP's server and a bare OpenSSL server, in one interleaved run."""

import sys
from pathlib import Path

# `python -m tests.bench` finds what the tests share as the tests do.
sys.path.insert(0, str(Path(__file__).parents[1]))
