"""The harness measures: the smallest case, with one peer that is here and one that is not."""

from pathlib import Path

from tests.bench import __main__ as bench
from tests.bench import case, results
from tests.bench.lab import Lab
from tests.bench.peers import PEERS, Peer
from tests.bench.scale import TINY
from tests.lab.mounted import needs_fuse


@needs_fuse
def test_a_small_case_is_measured_and_written_down(tmp_path: Path) -> None:
    bench.write(
        tmp_path, *bench.bench(["loopback"], ["artisync-openssh", "local"], 1, TINY, "./scripts/bench")
    )
    ours, local = results.load(tmp_path / "results.json")["loopback"].outcomes
    assert (ours.note, local.note) == ("", "")
    assert ours.values["speed"][0] > 0
    assert ours.values["again"][0] > 0
    assert "| artisync-openssh |" in (tmp_path / "README.md").read_text()


def test_who_is_not_installed_or_fails_is_told_and_left_out() -> None:
    absent = Peer("absent", "no-such-program", "nowhere", mount=lambda *_: [])
    broken = Peer("broken", "false", "coreutils", mount=lambda *_: ["false"])
    said: list[str] = []
    with Lab(TINY) as lab:
        chosen = bench.all_cases(TINY)["find"]
        outcomes = case.run(lab, chosen, [absent, broken, PEERS["local"]], 2, said.append)
    assert [outcome.note for outcome in outcomes] == ["not installed (nowhere)", "does not mount: exit 1", ""]
    assert len(outcomes[2].values["time"]) == 2
    assert len([line for line in said if "broken" in line]) == 1, "it is not tried again"
