"""Every promise of the documents names a test that is there."""

from __future__ import annotations

import re

import pytest

from tests.promises import DOCUMENTS, ROOT, defined, promised


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_test_that_a_document_names_exists(document: str) -> None:
    tests = promised(document)
    assert tests
    assert [(file, name) for file, name in tests if name not in defined(file)] == []


def test_each_numbered_promise_names_a_test() -> None:
    text = (ROOT / "docs/SEMANTICS.md").read_text()
    promises = re.split(r"^(?=\d+\. )", text, flags=re.MULTILINE)[1:]
    assert [int(promise.partition(".")[0]) for promise in promises] == list(range(1, len(promises) + 1))
    for promise in promises:
        assert "::test_" in promise, promise[:80]


def test_each_row_of_the_reliability_tables_names_a_test() -> None:
    # the figures of the chaos are no promises
    promises, heading, _ = (ROOT / "docs/RELIABILITY.md").read_text().partition("## Everything at once")
    assert heading
    rows = [
        line
        for line in promises.splitlines()
        if line.startswith("|") and not re.match(r"\|[-| :]+\|$", line) and "shown by" not in line
    ]
    assert rows
    assert [row for row in rows if "tests/" not in row] == []
