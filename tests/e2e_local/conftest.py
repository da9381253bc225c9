"""A server for tests that only talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kmipd_process import Kmipd, dev, running


@pytest.fixture
def kmipd(tmp_path: Path) -> Iterator[Kmipd]:
    with running(dev(tmp_path / "data")) as server:
        yield server
