"""docs/TROUBLESHOOTING.md is made from the errors, and says what they say."""

from __future__ import annotations

import runpy

from tests.promises import ROOT


def test_it_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "scripts/troubleshooting.py"))["markdown"]()
    written = (ROOT / "docs/TROUBLESHOOTING.md").read_text()
    assert written == made, "docs/TROUBLESHOOTING.md is out of date; write it anew with:  ./scripts/docs"
