"""An engine for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.kmip_engine import Kmip, open_kmip


@pytest.fixture
async def kmip(tmp_path: Path) -> AsyncIterator[Kmip]:
    opened = await open_kmip(tmp_path / "kmip.db")
    yield opened
    await opened.storage.aclose()
