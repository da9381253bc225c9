"""A second real PKCS#11 module, without an AEAD mechanism: encryption and MAC by two keys, chosen by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import opencryptoki


@pytest.mark.pkcs11
def test_token_without_aead(tmp_path: Path) -> None:
    script = Path(opencryptoki.__file__).with_name("opencryptoki_scenario.py")
    done = opencryptoki.inside(tmp_path, [sys.executable, str(script), str(tmp_path)])
    assert done.returncode == 0, done.stdout + done.stderr
