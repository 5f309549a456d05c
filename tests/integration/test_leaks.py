"""A short leak hunt; the long one is `scripts/soak --leaks`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.mounted import needs_fuse
from tests.leaks import Counts, Report, hunt

pytestmark = needs_fuse


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transport", "counts"),
    [
        ("paramiko", Counts(opens=2_000, listings=200, reconnects=9, mounts=3, in_process=9)),
        ("openssh", Counts(opens=0, listings=0, reconnects=9, mounts=2, in_process=0)),
    ],
)
def test_what_a_mount_holds_levels_off_and_nothing_is_left_behind(
    tmp_path: Path, transport: str, counts: Counts
) -> None:
    report = Report()
    hunt(tmp_path, transport, counts, report)
    assert report.failures == [], "\n".join(report.lines)
