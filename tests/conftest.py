"""What holds for all tests: each finds logging as it was, and in CI a promise whose test did not run is a failure."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.lab.loop_watch import watched_loop  # noqa: F401 # a fixture for all tests
from tests.promises import DOCUMENTS, promised

_passed: set[tuple[str, str]] = set()

# a shell that starts the tests in the background has them ignored, and what they start would inherit that
for _ignored in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_ignored) is signal.SIG_IGN:
        signal.signal(_ignored, signal.default_int_handler if _ignored is signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that a test runs in this process sets logging up for itself."""
    loggers = [logging.getLogger(name) for name in (None, "vfs", "paramiko")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


REAL = ("tests/integration/", "tests/faults/", "tests/e2e/")
"""Where tests run real servers, mounts and programs, which other work on the machine may make late."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timed") or item.nodeid.startswith(REAL):
            item.add_marker(pytest.mark.flaky(reruns=1))


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
