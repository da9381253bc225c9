"""Every reason is explained to people."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmip_operator.reasons import Reason

PAGE = Path(__file__).parents[3] / "docs" / "troubleshooting.md"


@pytest.mark.parametrize("reason", list(Reason))
def test_the_troubleshooting_page_explains_the_reason(reason: Reason) -> None:
    assert f"`{reason}`" in PAGE.read_text(), f"{PAGE.name} does not mention {reason}"
