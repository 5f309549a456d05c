"""In CI, a promise whose test did not run is a failure: skipped is not shown."""

from __future__ import annotations

import os

import pytest

from tests.promises import DOCUMENTS, promised

_passed: set[tuple[str, str]] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        file, _, rest = report.nodeid.partition("::")
        _passed.add((file, rest.partition("[")[0]))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Only after a run of everything, as root: an ordinary user cannot make every trouble."""
    if hasattr(session.config, "workerinput"):  # one of several processes that run tests
        return
    everything = session.config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if not (os.environ.get("CI") and everything and exitstatus == 0 and os.getuid() == 0):
        return
    missing = {test for document in DOCUMENTS for test in promised(document)} - _passed
    for file, name in sorted(missing):
        print(f"\npromised, and did not run: {file}::{name}")
    if missing:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
