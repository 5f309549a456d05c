"""What the documents say is shown by a test is shown by one that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
SHOWN = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (TOP / "docs/RELIABILITY.md").read_text())


@pytest.mark.parametrize(("path", "name"), SHOWN, ids=[name for _, name in SHOWN])
def test_a_test_that_is_named_is_there(path: str, name: str) -> None:
    assert f"\ndef {name}(" in (TOP / path).read_text()
