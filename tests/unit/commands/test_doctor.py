"""`artisync doctor` without a server: this machine's checks, the order, and what is made of what is seen."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab.live_mount import live
from tests.unit.conftest import Artisync
from vfs.base import mount_table
from vfs.base.address import Address
from vfs.base.errors import ConnectError, MountSilent, NfsMissing, RootUnusable
from vfs.base.profiles import Profile, profile_path, save_profile
from vfs.commands.doctor import machine, network
from vfs.commands.doctor.examine import CHECKS
from vfs.commands.doctor.finding import Finding, Result
from vfs.commands.doctor.server import clock_finding
from vfs.frontends.fuse import available
from vfs.remote.ssh.prompts import Deadline
from vfs.remote.ssh.ssh_config import resolve

pytestmark = pytest.mark.usefixtures("home")

Json = dict[str, Any]


def checks(artisync: Artisync, *words: str) -> dict[str, Json]:
    said = artisync("doctor", "--json", *words)
    told = json.loads(said.out)
    assert told["ok"] is (said.code == 0)
    return {one["check"]: one for one in told["checks"]}


# --- order --------------------------------------------------------------------------------------------------------


def test_without_a_profile_the_server_is_not_looked_at_and_this_machine_is(artisync: Artisync) -> None:
    found = checks(artisync)
    assert tuple(found) == CHECKS
    assert found["profile"]["result"] == "failed"
    assert "artisync connect" in found["profile"]["next"]
    chain = CHECKS[CHECKS.index("name") : CHECKS.index("disk")]
    assert {found[check]["text"] for check in chain} == {"skipped (needs: profile)"}
    assert {found[check]["result"] for check in ("disk", "cache")} <= {"ok", "warning"}


def test_a_corrupt_profile_is_told_with_its_file(artisync: Artisync) -> None:
    path = profile_path("default")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    found = checks(artisync)
    assert str(path) in found["profile"]["text"]
    assert {found[check]["result"] for check in ("name", "disk", "cache")} == {"skipped"}


def test_nothing_of_the_ssh_line_but_where_it_leads_is_told(artisync: Artisync) -> None:
    line = "ssh -p 1 -o 'ProxyCommand=tunnel --token s3cret %h' me@localhost"
    save_profile(Profile("default", Address.parse(line)))
    said = artisync("doctor")
    assert "default: me@localhost port 1, /shared/artifacts, paramiko" in said.out
    assert "s3cret" not in said.out + said.err


@pytest.mark.parametrize(
    "words", [["a", "b"], ["--ssh", "ssh -p nine host"], ["--timeout", "soon"], ["--yaml"]]
)
def test_wrong_usage_is_exit_code_2_without_a_line(artisync: Artisync, words: list[str]) -> None:
    said = artisync("doctor", *words)
    assert (said.code, said.out) == (2, "")


def test_the_cause_and_the_next_step_come_from_the_error() -> None:
    error = RootUnusable("there is no /data on the server")
    assert Finding.of_error("root", error) == Finding("root", Result.FAILED, str(error), error.hint)
    late = Finding.of_error("root", TimeoutError(), "Try again.")
    assert (late.text, late.next) == ("no answer in time", "Try again.")


# --- this machine -------------------------------------------------------------------------------------------------


def test_no_step_of_doctor_is_to_run_doctor() -> None:
    finding = Finding.of_error(
        "name", ConnectError("~/.ssh/config: terminating, 1 bad configuration options")
    )
    assert "doctor" not in finding.next
    assert "`-v`" in finding.next


def test_without_fuse_the_next_step_is_to_install_it(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(available, "DEVICE", Path("/no/such/device"))
    found = checks(artisync)["fuse"]
    assert found["result"] == "failed"
    assert "modprobe fuse" in found["text"]
    assert "artisync pull" in found["next"]


def test_of_two_kinds_of_mount_only_the_usual_one_is_missed(
    artisync: Artisync, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(**_: object) -> str:
        raise NfsMissing("there is none")

    monkeypatch.setattr(machine, "check_client", missing)
    assert checks(artisync)["nfs"] == {
        "check": "nfs",
        "result": "skipped",
        "text": "there is none",
        "next": None,
    }
    monkeypatch.setattr("vfs.commands.doctor.machine.DEFAULT_VIA", "nfs")
    monkeypatch.setattr(available, "DEVICE", Path("/no/such/device"))
    found = checks(artisync)
    assert (found["nfs"]["result"], found["fuse"]["result"]) == ("failed", "skipped")
    assert "--via fuse" in found["nfs"]["next"]
    monkeypatch.setattr(machine, "check_client", lambda: "it can be used")
    assert checks(artisync)["nfs"]["result"] == "ok"


def test_a_step_is_short_unless_a_time_is_given() -> None:
    line = "ssh me@localhost"
    for given, seconds in (({}, 10.0), ({"timeout": "60s"}, 60.0), ({"timeout": "2s"}, 2.0)):
        _, settings = machine.profile({"ssh": line, **given})
        assert settings is not None
        assert settings.timeout == seconds


@pytest.mark.parametrize(
    ("free", "limit", "result", "said"),
    [
        (100 << 30, 20 << 30, Result.OK, "100 GiB free"),
        (10 << 30, 20 << 30, Result.WARNING, "may grow by another 20.0 GiB"),
        (1 << 20, 20 << 30, Result.WARNING, "1.0 MiB free"),
        (0, 20 << 30, Result.FAILED, "0 B free"),
    ],
)
def test_room_for_the_cache_is_weighed_against_its_limit(
    home: Path, monkeypatch: pytest.MonkeyPatch, free: int, limit: int, result: Result, said: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    found = machine.room(home / "not/there/yet", limit, 5)
    assert found.result is result
    assert said in found.text
    assert bool(found.next) is (result is not Result.OK)


def test_a_disk_that_does_not_answer_is_given_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = Event()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: never.wait())
    found = machine.room(home, 1, 0.05)
    never.set()
    assert (found.result, found.text) == (Result.FAILED, f"the disk of {home} does not answer")


def test_a_cache_that_is_not_there_yet_is_not_made(home: Path) -> None:
    found = machine.cache(home / "a/b", 5)
    assert found.result is Result.OK
    assert not (home / "a").exists()


def test_mounts_that_are_well_silent_or_offline_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount_table, "mounts", list)

    async def online(_: Json) -> Json:
        return {"state": "online"}

    async def offline(_: Json) -> Json:
        return {"state": "offline"}

    async def never(_: Json) -> Json:
        await asyncio.Event().wait()
        return {}

    assert machine.mounts(5) == Finding("mounts", Result.OK, "nothing is mounted")
    with live(Path("/mnt/a"), {"status": online}):
        assert machine.mounts(5) == Finding("mounts", Result.OK, "/mnt/a is online")
        with live(Path("/mnt/b"), {"status": offline}):
            found = machine.mounts(5)
            assert (found.result, found.text) == (Result.WARNING, "/mnt/a is online, /mnt/b is offline")
            with live(Path("/mnt/c"), {"status": never}):
                found = machine.mounts(0.1)
    assert found.result is Result.FAILED
    assert "/mnt/c: the mount's process has not answered" in found.text
    assert found.next == MountSilent().hint


# --- the network --------------------------------------------------------------------------------------------------


@pytest.fixture
def interfaces(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Linux tells of interfaces; `eth0` is one."""
    monkeypatch.setattr(network.sys, "platform", "linux")
    monkeypatch.setattr(network, "NET", home / "net")
    monkeypatch.setattr(network, "USERSPACE", home / "wireguard")
    (home / "net").mkdir()
    (home / "wireguard").mkdir()
    add(home / "net", "eth0", "INTERFACE=eth0\nIFINDEX=2\n", "0x1003")
    return home / "net"


def add(interfaces: Path, name: str, uevent: str, flags: str) -> None:
    (interfaces / name).mkdir()
    (interfaces / name / "uevent").write_text(uevent)
    (interfaces / name / "flags").write_text(flags + "\n")


def test_wireguard_interfaces_are_found_of_the_kernel_and_of_programs(interfaces: Path) -> None:
    assert network.wireguard() == {}
    add(interfaces, "wg0", "DEVTYPE=wireguard\nINTERFACE=wg0\n", "0x91")
    add(interfaces, "wg1", "DEVTYPE=wireguard\nINTERFACE=wg1\n", "0x90")
    add(interfaces, "utun3", "INTERFACE=utun3\n", "0x1091")
    (interfaces.parent / "wireguard/utun3.sock").touch()
    assert network.wireguard() == {"utun3": True, "wg0": True, "wg1": False}


def test_a_wireguard_that_is_down_comes_with_the_command_that_brings_it_up(interfaces: Path) -> None:
    add(interfaces, "lab", "DEVTYPE=wireguard\n", "0x90")
    found = network.through("10.0.0.5")
    assert (found.result, "WireGuard lab is down" in found.text) == (Result.WARNING, True)
    assert "`sudo wg-quick up lab`" in found.next


def test_on_this_machine_no_vpn_is_needed(interfaces: Path) -> None:
    add(interfaces, "lab", "DEVTYPE=wireguard\n", "0x90")
    for source in ("127.0.0.1", "::1"):
        assert network.through(source).result is Result.OK


def test_without_wireguard_all_is_well_and_that_is_said(interfaces: Path) -> None:
    found = network.through("10.0.0.5")
    assert found == Finding("route", Result.OK, "packets leave from 10.0.0.5; no WireGuard interface here")


def test_on_another_system_it_is_said_that_wireguard_cannot_be_seen(
    interfaces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network.sys, "platform", "darwin")
    assert "is not checked on this system" in network.through("10.0.0.5").text


def test_the_interface_of_an_address_is_told() -> None:
    assert network.interface_of("127.0.0.1") == "lo"
    assert network.interface_of("192.0.2.1") is None


def test_what_a_proxy_command_connects_cannot_be_looked_at() -> None:
    goal = resolve(Address("box", 22, "me", options=(("ProxyCommand", "nc %h %p"),)), Deadline(10))
    found = list(network.look(goal, 5))
    assert [(one.check, one.result) for one in found] == [(check, Result.SKIPPED) for check in network.CHECKS]
    assert "box:22 is reached through a ProxyCommand" in found[0].text


# --- the clock ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "newest", "result", "said"),
    [
        (-0.9, -60.0, Result.OK, "agree"),
        (130.0, -60.0, Result.WARNING, "2 min ahead of"),
        (-7500.0, 0.0, Result.WARNING, "2 h 5 min behind"),
        (0.0, 600.0, Result.WARNING, "10 min in the future"),
        (None, 600.0, Result.WARNING, "10 min in the future"),
        (None, -60.0, Result.SKIPPED, "does not tell"),
    ],
)
def test_clocks_are_compared_as_far_as_they_are_seen(
    ahead: float | None, newest: float, result: Result, said: str
) -> None:
    found = clock_finding(ahead, newest)
    assert found.result is result
    assert said in found.text
    assert bool(found.next) is (result is Result.WARNING)
