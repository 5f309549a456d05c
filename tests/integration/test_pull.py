"""`artisync pull` and `artisync ls` against a real sshd: what a user of `scp -r` expects, and what scp cannot do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.client import Client
from tests.lab.mounted import write
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "artifacts"
    for name in ("exp-1", "exp-2"):
        write(root / name / "checkpoints/best_model.pt", os.urandom(3 * MIB))
        write(root / name / "tensorboard/events.out.tfevents.1.host", os.urandom(5000))
        write(root / name / "logs/console.log", b"epoch 1\n" * 100)
    (root / "exp-1" / "empty").mkdir()
    return root


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["diff", "-r", one, other], check=False, capture_output=True).returncode == 0


def pull(client: Client, *words: str | Path) -> subprocess.CompletedProcess[str]:
    done = client.ask("pull", *words)
    assert done.returncode == 0, done.stderr
    return done


def test_an_experiment_is_copied_with_its_times_and_modes(client: Client, root: Path, tmp_path: Path) -> None:
    script = write(root / "exp-1/run.sh", b"#!/bin/sh\n")
    script.chmod(0o755)
    pull(client, "exp-1", tmp_path / "out")
    assert same(root / "exp-1", tmp_path / "out/exp-1")
    assert os.listdir(tmp_path / "out") == ["exp-1"]
    copy = tmp_path / "out/exp-1/checkpoints/best_model.pt"
    assert copy.stat().st_mtime == 1_700_000_000
    assert os.access(tmp_path / "out/exp-1/run.sh", os.X_OK)
    assert not list(tmp_path.glob("out/**/.artisync*"))


def test_only_some_parts_of_all_experiments(client: Client, root: Path, tmp_path: Path) -> None:
    pull(client, "--all", tmp_path / "out", "--only", "tensorboard", "--only", "logs")
    for name in ("exp-1", "exp-2"):
        assert sorted(os.listdir(tmp_path / "out" / name)) == ["logs", "tensorboard"]
        assert same(root / name / "logs", tmp_path / "out" / name / "logs")


def test_files_newer_than_a_moment(client: Client, root: Path, tmp_path: Path) -> None:
    new = root / "exp-1/checkpoints/epoch_2.pt"
    new.write_bytes(b"new")
    os.utime(new, (time.time() - 60, time.time() - 60))
    pull(client, "exp-1", tmp_path / "out", "--newer-than", "1h")
    files = [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert files == ["epoch_2.pt"]


def test_a_dry_run_tells_and_changes_nothing(client: Client, tmp_path: Path) -> None:
    done = pull(client, "exp-1", tmp_path / "out", "--dry-run")
    assert "exp-1/checkpoints/best_model.pt\t3.0 MiB\tnew" in done.stdout
    assert done.stderr.startswith("To pull: 3 files, 3.0 MiB.")
    assert not list((tmp_path / "out").iterdir())
    pull(client, "exp-1", tmp_path / "out")
    assert pull(client, "exp-1", tmp_path / "out", "--dry-run").stderr == "Up to date: 3 files.\n"


def test_an_unchanged_tree_costs_a_listing_only(sshd: Sshd, root: Path, tmp_path: Path) -> None:
    with Relay(sshd.port) as relay:
        client = Client(sshd, root, tmp_path, port=relay.port)
        pull(client, "--all", tmp_path / "out")
        before = relay.bytes_down()
        done = pull(client, "--all", tmp_path / "out")
        assert "Up to date: 6 files." in done.stderr
        assert relay.bytes_down() - before < 64 << 10


def test_what_was_changed_here_is_left_alone(client: Client, root: Path, tmp_path: Path) -> None:
    pull(client, "exp-1", tmp_path / "out")
    mine = tmp_path / "out/exp-1/logs/console.log"
    mine.write_text("my own notes")
    write(root / "exp-1/logs/console.log", b"epoch 2\n" * 200)
    done = client.ask("pull", "exp-1", tmp_path / "out")
    assert done.returncode == 0
    assert "kept exp-1/logs/console.log, which was changed here" in done.stderr
    assert "--overwrite" in done.stderr
    assert mine.read_text() == "my own notes"
    pull(client, "exp-1", tmp_path / "out", "--overwrite")
    assert same(root / "exp-1", tmp_path / "out/exp-1")


def test_what_changed_on_the_server_is_brought_up_to_date(client: Client, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out/exp-1"
    pull(client, "exp-1", tmp_path / "out")
    log, events = out / "logs/console.log", out / "tensorboard/events.out.tfevents.1.host"
    inode = events.stat().st_ino
    with open(root / "exp-1/tensorboard/events.out.tfevents.1.host", "ab") as f:
        f.write(os.urandom(7000))
    write(root / "exp-1/logs/console.log", b"something else entirely\n" * 10)
    pull(client, "exp-1", tmp_path / "out")
    assert same(root / "exp-1", out)
    assert (
        events.stat().st_ino == inode
    )  # TensorBoard reads on in a file that has grown, not in one that was replaced
    assert log.read_bytes().startswith(b"something")


def test_links_are_kept_inside_an_experiment_and_followed_out_of_it(
    client: Client, root: Path, tmp_path: Path
) -> None:
    (root / "exp-1/checkpoints/latest.pt").symlink_to("best_model.pt")
    (root / "exp-1/other.pt").symlink_to("../exp-2/checkpoints/best_model.pt")
    (root / "exp-1/nowhere").symlink_to("/no/such/file")
    (tmp_path / "outside").mkdir()
    write(tmp_path / "outside/data.txt", b"data")
    (root / "exp-1/shared").symlink_to(tmp_path / "outside")
    pull(client, "exp-1", tmp_path / "out")
    out = tmp_path / "out/exp-1"
    assert os.readlink(out / "checkpoints/latest.pt") == "best_model.pt"
    assert not (out / "other.pt").is_symlink()
    assert (out / "other.pt").read_bytes() == (root / "exp-2/checkpoints/best_model.pt").read_bytes()
    assert not os.path.lexists(out / "nowhere")
    assert (out / "shared/data.txt").read_bytes() == b"data"


def test_names_that_need_quoting(client: Client, root: Path, tmp_path: Path) -> None:
    for name in (
        b"two words.txt",
        b"$HOME; rm *",
        b"line\nbreak",
        b"\xff\xfe.bin",
        b"-rf",
        b"\xc3\xa9t\xc3\xa9",
    ):
        write(Path(os.fsdecode(os.fsencode(root / "exp-1") + b"/" + name)), b"content of " + name)
    pull(client, "exp-1", tmp_path / "out dir")
    assert same(root / "exp-1", tmp_path / "out dir/exp-1")


def test_a_file_that_may_not_be_read_fails_alone(client: Client, root: Path, tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    (root / "exp-1/secret").write_bytes(b"x")
    (root / "exp-1/secret").chmod(0)
    done = client.ask("pull", "exp-1", tmp_path / "out")
    assert done.returncode == 1
    assert "exp-1/secret" in done.stderr
    assert same(root / "exp-1/checkpoints", tmp_path / "out/exp-1/checkpoints")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nope", "OUT"], 1, "no experiment 'nope'"),
        (["exp_1", "OUT"], 1, "did you mean exp-1"),
        (["exp", "OUT"], 1, "exp is ambiguous: exp-1, exp-2"),
        (["OUT"], 2, "is not enough"),
        (["--all", "exp-1", "OUT"], 2, "not both"),
        (["exp-1", "FILE"], 1, "is a file"),
        (["exp-1", ""], 1, "the destination is an empty path"),
        (["exp-1", "OUT", "--newer-than", "nand"], 2, "is not a time"),
        (["exp-1", "OUT", "--only", "gradients"], 2, "gradients"),
        (["exp-1", "OUT", "--watch", "--dry-run"], 2, "cannot be combined"),
    ],
)
def test_wrong_words_are_told(client: Client, tmp_path: Path, words: list[str], code: int, says: str) -> None:
    write(tmp_path / "file", b"")
    places = {"OUT": str(tmp_path / "out"), "FILE": str(tmp_path / "file")}
    done = client.ask("pull", *(places.get(word, word) for word in words))
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr


def test_two_pulls_into_one_place(client: Client, root: Path, tmp_path: Path) -> None:
    first = client.start("pull", "exp-1", tmp_path / "out", "--watch")
    try:
        assert eventually(lambda: (tmp_path / "out/exp-1/logs/console.log").exists(), 20)
        done = client.ask("pull", "exp-1", tmp_path / "out")
        assert done.returncode == 1
        assert "another pull is writing" in done.stderr
        assert client.ask("pull", "exp-2", tmp_path / "out").returncode == 0
    finally:
        first.send_signal(signal.SIGINT)
        assert first.wait(10) == 0


def test_a_watched_copy_follows_the_server(client: Client, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out/exp-1"
    watching = client.start("pull", "exp-1", tmp_path / "out", "--watch")
    assert watching.stderr is not None
    try:
        first = watching.stderr.readline()  # what changes from now on has a line of its own
        with open(root / "exp-1/logs/console.log", "ab") as f:
            f.write(b"epoch 101\n")
        (root / "exp-1/checkpoints/epoch_2.pt").write_bytes(os.urandom(100_000))
        assert eventually(lambda: (out / "logs/console.log").read_bytes().endswith(b"epoch 101\n"), 20)
        assert eventually(lambda: (out / "checkpoints/epoch_2.pt").exists(), 20)
        assert same(root / "exp-1", out)
    finally:
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=10)
    assert watching.returncode == 0
    *more, last = said.splitlines()
    assert re.fullmatch(r"[0-9:]{8} pulled 3 files, .*\n", first)
    assert 1 <= len(more) <= 2, "a line for each change, none for a look that finds nothing"
    assert all(re.fullmatch(r"[0-9:]{8} pulled [12] files?, .*, [123] up to date", line) for line in more), (
        more
    )
    assert last == "Stopped."


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_pull_that_was_stopped_goes_on_where_it_was(
    sshd: Sshd, root: Path, tmp_path: Path, how: signal.Signals
) -> None:
    big = write(root / "exp-3/checkpoints/big.pt", os.urandom(48 * MIB))
    with Relay(sshd.port, rate_mbit=120) as relay:
        client = Client(sshd, root, tmp_path, port=relay.port)
        first = client.start("pull", "exp-3", tmp_path / "out")
        assert eventually(lambda: relay.bytes_down() > 24 * MIB, 30)
        first.send_signal(how)
        assert first.wait(10) == (130 if how is signal.SIGINT else -how)
        assert not (tmp_path / "out/exp-3/checkpoints/big.pt").exists()
        first_time = relay.bytes_down()
        pull(client, "exp-3", tmp_path / "out")
        assert (tmp_path / "out/exp-3/checkpoints/big.pt").read_bytes() == big.read_bytes()
        assert relay.bytes_down() - first_time < 36 * MIB
        assert os.listdir(tmp_path / "out/exp-3/checkpoints") == ["big.pt"]


def test_a_pull_over_broken_connections_just_takes_longer(sshd: Sshd, root: Path, tmp_path: Path) -> None:
    big = write(root / "exp-3/checkpoints/big.pt", os.urandom(24 * MIB))
    with Relay(sshd.port, rate_mbit=120) as relay:
        client = Client(sshd, root, tmp_path, port=relay.port)
        pulling = client.start("pull", "exp-3", tmp_path / "out")
        assert eventually(lambda: relay.bytes_down() > 8 * MIB, 30)
        relay.reset()
        assert pulling.wait(60) == 0, pulling.stderr
    assert (tmp_path / "out/exp-3/checkpoints/big.pt").read_bytes() == big.read_bytes()


def test_what_does_not_fit_on_the_disk_is_not_begun(client: Client, root: Path, tmp_path: Path) -> None:
    with open(root / "exp-1/checkpoints/huge.pt", "wb") as sparse:
        sparse.truncate(8 << 40)
    done = client.ask("pull", "exp-1", tmp_path / "copy")
    assert done.returncode == 1
    assert "exp-1/checkpoints/huge.pt: 8.0 TiB do not fit: " in done.stderr
    assert "iB free" in done.stderr
    assert [path.name for path in (tmp_path / "copy").rglob("*.pt")] == ["best_model.pt"]


def test_ls_of_experiments(client: Client) -> None:
    client.ask("prefetch", "exp-2")
    rows = {row["name"]: row for row in json.loads(client.ask("ls", "--json").stdout)}
    assert list(rows) == ["exp-1", "exp-2"]
    assert (rows["exp-1"]["files"], rows["exp-1"]["size"]) == (3, 3 * MIB + 5000 + 800)
    assert rows["exp-1"]["checkpoint"] == "checkpoints/best_model.pt"
    assert (rows["exp-1"]["cached"], rows["exp-2"]["cached"]) == (0, rows["exp-2"]["size"])
    text = client.ask("ls").stdout.splitlines()
    assert [line.split("\t")[0] for line in text] == ["exp-1", "exp-2"]
    assert text[0].split("\t")[1:3] == ["3.0 MiB", "3"]


def test_ls_of_one_experiment_by_size(client: Client) -> None:
    text = client.ask("ls", "exp-1", "--sort", "size").stdout.splitlines()
    assert [line.split("\t")[0] for line in text] == [
        "checkpoints/best_model.pt",
        "tensorboard/events.out.tfevents.1.host",
        "logs/console.log",
    ]


def test_ls_without_a_server_shows_what_was_last_seen(client: Client, sshd: Sshd) -> None:
    assert client.ask("ls").returncode == 0
    sshd.stop()
    done = client.ask("ls")
    assert done.returncode == 0
    assert "does not answer" in done.stderr
    assert done.stdout.splitlines()[0].startswith("exp-1\t3.0 MiB")
