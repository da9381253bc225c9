"""The real images: built, inspected, and run as a foreign uid on a read-only root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_every_image_is_in_order() -> None:
    assert os.geteuid() == 0, "this test mounts and changes uids: run it as root"
    done = subprocess.run(
        [sys.executable, str(ROOT / "kind/images"), "verify"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
