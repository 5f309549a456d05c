"""A real mount over a real sshd: the tree as on the server, read-only, fresh, cached."""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.processes import Program
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually

pytestmark = needs_fuse


def artifacts(root: Path) -> Path:
    (root / "exp-1/checkpoints").mkdir(parents=True)
    (root / "exp-1/logs").mkdir()
    (root / "exp-1/logs/console.log").write_text("hello\n" * 1000)
    old(root / "exp-1/checkpoints/best_model.pt", os.urandom(5 << 20))
    return root


def old(path: Path, content: bytes) -> None:
    """A file that nobody is writing any more."""
    path.write_bytes(content)
    settle(path)


@pytest.fixture(params=["paramiko", "openssh"])
def mounted(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> Iterator[Mounted]:
    with Sshd() as sshd:
        mounted = Mounted(sshd, root, tmp_path, "--transport", request.param)
        with mounted:
            yield mounted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return artifacts(tmp_path / "artifacts")


@pytest.fixture(scope="module", params=["paramiko", "openssh"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """A mount for the tests that it does not matter to what others have read and written."""
    place = tmp_path_factory.mktemp("shared")
    with Sshd() as sshd:
        mounted = Mounted(
            sshd, artifacts(place / "artifacts"), place, "--transport", request.param, "--ttl", "500ms"
        )
        with mounted:
            yield mounted


def fetched(mounted: Mounted) -> int:
    """Bytes of files that came from the server."""
    answer = json.loads(mounted.artisync("status", "--json", str(mounted.path)).stdout)
    return int(answer["mounts"][0]["bytes"]["fetched"])


def test_the_tree_is_the_servers(mounted: Mounted, root: Path) -> None:
    assert subprocess.run(["diff", "-r", root, mounted.path], check=False).returncode == 0


def test_attributes_are_the_servers_without_write_bits_and_owned_by_who_mounted(shared: Mounted) -> None:
    log = shared.root / "exp-1/logs/console.log"
    log.chmod(0o754)
    os.utime(log, (1_700_000_001.5, 1_700_000_001.5))
    assert eventually(lambda: (shared.path / "exp-1/logs/console.log").stat().st_mode & 0o777 == 0o554)
    shown = (shared.path / "exp-1/logs/console.log").stat()
    assert (shown.st_mtime, shown.st_size) == (1_700_000_001, log.stat().st_size)
    assert (shown.st_uid, shown.st_gid) == (os.getuid(), os.getgid())
    assert not (shared.path / "exp-1").stat().st_mode & 0o222


def test_the_room_on_the_file_system_is_the_servers(shared: Mounted) -> None:
    here, there = os.statvfs(shared.path), os.statvfs(shared.root)
    assert here.f_blocks * here.f_frsize == there.f_blocks * there.f_frsize
    assert here.f_namemax == there.f_namemax


def test_an_attribute_tells_where_the_bytes_of_a_file_are(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "mnt/exp-1/checkpoints/best_model.pt"

    def state() -> bytes:
        return os.getxattr(path, "user.artisync.state")

    with Sshd() as sshd, Mounted(sshd, root, tmp_path):
        assert state() == b"remote"
        with path.open("rb", buffering=0) as file:
            os.pread(file.fileno(), 100, 3 << 20)
        assert state() == b"partial"
        assert 0 < int(os.getxattr(path, "user.artisync.cached_bytes")) < 5 << 20
        path.read_bytes()
        assert state() == b"cached"
        assert int(os.getxattr(path, "user.artisync.cached_bytes")) == 5 << 20
        sshd.stop()
        assert eventually(lambda: state() == b"stale")
        assert len(path.read_bytes()) == 5 << 20


def test_copies_carry_no_attribute_of_ours(shared: Mounted, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", shared.path / "exp-1/checkpoints", copy], check=True)
    for path in (shared.path / "exp-1/checkpoints", shared.path / "exp-1/checkpoints/best_model.pt"):
        assert os.listxattr(path) == []
    with pytest.raises(OSError) as caught:
        os.getxattr(copy / "best_model.pt", "user.artisync.state")
    assert caught.value.errno in (errno.ENODATA, errno.EOPNOTSUPP)


def test_how_many_directories_are_in_one_is_left_open(shared: Mounted) -> None:
    assert os.stat(shared.path / "exp-1").st_nlink == 1


def test_a_name_that_is_too_long_and_links_in_a_circle_are_told(shared: Mounted) -> None:
    for name, text in {"circle": "exp-1/back", "exp-1/back": "../circle", "dangling": "nothing"}.items():
        (shared.root / name).unlink(missing_ok=True)
        (shared.root / name).symlink_to(text)
    assert eventually(lambda: os.path.lexists(shared.path / "dangling"))
    for name, number in {
        "x" * 256: errno.ENAMETOOLONG,
        "exp-1/" + "x" * 300: errno.ENAMETOOLONG,
        "circle": errno.ELOOP,
        "exp-1/back": errno.ELOOP,
        "circle/file": errno.ELOOP,
        "dangling": errno.ENOENT,
        "x" * 255: errno.ENOENT,
    }.items():
        with pytest.raises(OSError) as caught:
            os.stat(shared.path / name)
        assert caught.value.errno == number, name
    for name, says in {
        "circle": "circle leads in a circle of symbolic links",
        "circle/file": "circle/file leads in a circle of symbolic links",
        "dangling": "a symbolic link leads to nothing, which is not on the server",
    }.items():
        assert shared.artisync("ls", shared.path / name).stderr.startswith(f"artisync: {says}\n")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("system.posix_acl_access", errno.EOPNOTSUPP),
        ("security.selinux", errno.EOPNOTSUPP),
        ("user.other", errno.ENODATA),
    ],
)
def test_there_are_no_acls_nor_labels_and_programs_need_not_ask_again(
    shared: Mounted, name: str, number: int
) -> None:
    with pytest.raises(OSError) as caught:
        os.getxattr(shared.path / "exp-1", name)
    assert caught.value.errno == number


def test_odd_names_are_shown_as_they_are(shared: Mounted) -> None:
    names = [b"\xff\xfe not utf-8", b"new\nline", b"x" * 255, b" ", b"\\"]
    for name in names:
        Path(os.fsdecode(os.fsencode(shared.root) + b"/" + name)).write_bytes(name)
    assert eventually(lambda: set(names) <= set(os.listdir(os.fsencode(shared.path))))
    for name in names:
        assert Path(os.fsdecode(os.fsencode(shared.path) + b"/" + name)).read_bytes() == name


def test_every_change_is_refused_as_read_only(shared: Mounted) -> None:
    log = shared.path / "exp-1/logs/console.log"
    changes: list[Callable[[], object]] = [
        lambda: (shared.path / "new").write_text(""),
        lambda: log.unlink(),
        lambda: log.rename(shared.path / "x"),
        lambda: log.chmod(0o777),
        lambda: (shared.path / "d").mkdir(),
        lambda: (shared.path / "exp-1").rmdir(),
        lambda: (shared.path / "l").symlink_to("a"),
        lambda: os.truncate(log, 0),
        lambda: os.utime(log, (0, 0)),
    ]
    for change in changes:
        with pytest.raises(OSError, match="Read-only") as caught:
            change()
        assert caught.value.errno == errno.EROFS


def test_a_second_read_and_one_after_a_remount_move_no_data(mounted: Mounted, root: Path) -> None:
    name = "exp-1/checkpoints/best_model.pt"
    want = (root / name).read_bytes()
    assert (mounted.path / name).read_bytes() == want
    assert fetched(mounted) == len(want)
    assert (mounted.path / name).read_bytes() == want
    assert fetched(mounted) == len(want)
    mounted.unmount()
    mounted.mount()
    assert (mounted.path / name).read_bytes() == want
    assert fetched(mounted) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root may say how much the kernel asks for")
def test_what_the_disk_has_is_asked_for_in_large_pieces(root: Path, tmp_path: Path) -> None:
    name = "exp-1/checkpoints/best_model.pt"
    with Sshd() as sshd:
        mounted = Mounted(sshd, root, tmp_path, "-vv")
        with mounted as path:
            want = (path / name).read_bytes()
        mounted.log.unlink()
        with mounted as path:
            assert (path / name).read_bytes() == want
    assert "len=1048576}" in mounted.log.read_text()


def test_mappings_show_the_same_bytes(shared: Mounted) -> None:
    name = "exp-1/checkpoints/best_model.pt"
    want = (shared.root / name).read_bytes()
    with open(shared.path / name, "rb") as file:
        for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            with mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as mapped:
                assert mapped[:] == want


def test_a_sparse_file_of_five_gigabytes_is_read_at_its_end(shared: Mounted) -> None:
    with open(shared.root / "big", "wb") as file:
        file.seek(5 << 30)
        file.write(b"the end")
    settle(shared.root / "big")
    assert eventually((shared.path / "big").exists)
    with open(shared.path / "big", "rb") as file:
        assert file.seek(-7, os.SEEK_END) == 5 << 30
        assert file.read() == b"the end"


def test_links_never_lead_out_of_the_mount(mounted: Mounted, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside")
    (root / "inside").symlink_to(root / "exp-1")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "dangling").symlink_to("/nowhere/at/all")
    (root / "loop").symlink_to("loop")
    assert eventually(lambda: len(os.listdir(mounted.path)) == 5)
    assert os.readlink(mounted.path / "inside") == "exp-1"
    assert not (mounted.path / "out").is_symlink()
    assert (mounted.path / "out").read_text() == "outside"
    assert not os.readlink(mounted.path / "dangling").startswith("/")
    assert not (mounted.path / "dangling").exists()
    assert not (mounted.path / "loop").exists()


def test_an_open_file_shows_what_is_appended(shared: Mounted) -> None:
    log = shared.root / "exp-1/logs/console.log"
    with open(shared.path / "exp-1/logs/console.log", "rb", buffering=0) as file:
        assert file.read(1 << 20) == log.read_bytes()
        with log.open("ab") as appended:
            appended.write(b"more\n")
        assert eventually(lambda: file.read(100) == b"more\n")


def test_a_replaced_checkpoint_is_stale_for_the_old_handle_and_new_for_a_new_one(
    mounted: Mounted, root: Path
) -> None:
    name = "exp-1/checkpoints/best_model.pt"
    with open(mounted.path / name, "rb", buffering=0) as file:
        file.read(10)
        new = os.urandom(5 << 20)
        (root / "tmp").write_bytes(new)
        os.rename(root / "tmp", root / name)
        before = os.fstat(file.fileno()).st_ino
        assert eventually(lambda: (mounted.path / name).stat().st_ino != before)
        with pytest.raises(OSError, match="Stale"):
            file.seek(4 << 20)
            file.read(10)
    assert (mounted.path / name).read_bytes() == new


def test_ten_thousand_entries_are_listed(shared: Mounted) -> None:
    (shared.root / "many").mkdir(exist_ok=True)
    for i in range(10_000):
        (shared.root / f"many/{i}").touch()
    assert eventually((shared.path / "many").exists)
    assert len(os.listdir(shared.path / "many")) == 10_000


def test_a_missing_root_is_told_with_the_next_step(root: Path, tmp_path: Path) -> None:
    with Sshd() as sshd:
        mounted = Mounted(sshd, root / "not-there", tmp_path)
        done = mounted.artisync("mount", *mounted.words, str(mounted.path))
        assert done.returncode == 1
        assert "not-there" in done.stderr
        assert "--remote-root" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_killed_mount_is_cleaned_up_by_the_next(mounted: Mounted) -> None:
    answer = json.loads(mounted.artisync("status", "--json", str(mounted.path)).stdout)
    os.kill(answer["mounts"][0]["pid"], 9)

    def dead() -> bool:
        try:
            os.listdir(mounted.path)
        except OSError as error:
            return error.errno == errno.ENOTCONN
        return False

    assert eventually(dead)
    mounted.mount()
    assert os.listdir(mounted.path) == ["exp-1"]
    assert len(list(mounted.place.glob("artisync/*"))) == 2, "a socket and a record"


def test_a_mount_is_known_and_ended_where_it_is_after_a_directory_above_it_was_renamed(
    root: Path, tmp_path: Path
) -> None:
    with Sshd() as sshd:
        mounted = Mounted(sshd, root, tmp_path)
        mounted.path = tmp_path / "up/mnt"
        mounted.mount()
        (tmp_path / "up").rename(tmp_path / "moved up")
        moved = tmp_path / "moved up/mnt"
        with mounted as other:  # where the first one was
            answers = json.loads(mounted.artisync("status", "--json").stdout)["mounts"]
            pids = {Path(answer["mountpoint"]): answer["pid"] for answer in answers}
            assert pids.keys() == {moved, other}
            listed = mounted.artisync("ls", "--json", moved / "exp-1/logs")
            assert [row["name"] for row in json.loads(listed.stdout)] == ["console.log"]
            os.kill(pids[moved], signal.SIGTERM)
            assert eventually(lambda: not os.path.exists(f"/proc/{pids[moved]}"))
            assert os.listdir(moved) == []
            assert os.listdir(other) == ["exp-1"]


def test_with_the_server_gone_a_remount_shows_what_was_read(root: Path, tmp_path: Path) -> None:
    with Sshd() as sshd:
        mounted = Mounted(sshd, root, tmp_path)
        with mounted as path:
            want = (path / "exp-1/checkpoints/best_model.pt").read_bytes()
            os.listdir(path / "exp-1/checkpoints")
            os.listdir(path / "exp-1")
            os.listdir(path)
    with mounted as path:
        assert (path / "exp-1/checkpoints/best_model.pt").read_bytes() == want


def test_whether_a_file_is_complete_is_told_without_a_byte_of_it_where_its_size_says_it(
    mounted: Mounted, root: Path
) -> None:
    old(root / "short.pt", b"PK\x03\x04")
    old(root / "events.out.tfevents.1.host", b"x" * 100)
    old(root / "notes.bin", b"x" * 100)
    assert eventually((mounted.path / "notes.bin").exists)
    for name, answer in {
        "short.pt": b"no",
        "events.out.tfevents.1.host": b"unknown",
        "notes.bin": b"unknown",
    }.items():
        assert os.getxattr(mounted.path / name, "user.artisync.complete") == answer
        assert os.getxattr(mounted.path / name, "user.artisync.cached_bytes") == b"0"


def test_an_unmount_leaves_open_files_readable_and_the_process_ends_with_them(
    root: Path, tmp_path: Path
) -> None:
    old(root / "exp-1/data.bin", os.urandom(300_000))
    with Sshd() as sshd:
        mounted = Mounted(sshd, root, tmp_path)
        path = mounted.mount()
        with open(path / "exp-1/data.bin", "rb") as file:
            head = file.read(1000)
            done = mounted.artisync("unmount", str(path))
            assert done.returncode == 0
            assert "can go on reading" in done.stderr
            assert not os.path.ismount(path)
            assert head + file.read() == (root / "exp-1/data.bin").read_bytes()
        pattern = f"mount.*{path}"
        assert eventually(lambda: subprocess.run(["pgrep", "-f", pattern], check=False).returncode != 0)


def test_an_unmount_is_refused_while_somebody_works_in_the_mount(root: Path, tmp_path: Path) -> None:
    (root / "exp-1").mkdir(exist_ok=True)
    with Sshd() as sshd:
        mounted = Mounted(sshd, root, tmp_path)
        path = mounted.mount()
        with Program(["sleep", "60"], cwd=path / "exp-1") as standing:
            done = mounted.artisync("unmount", str(path))
            assert done.returncode == 1
            assert f"sleep ({standing.pid})" in done.stderr
            assert os.path.ismount(path)
            standing.kill()
        mounted.unmount()
