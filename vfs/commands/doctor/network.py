"""Checks of the way to the server: its name, the route to it and WireGuard, its port, what greets us there.

Blocking, each for a bounded time. Only these look at the network from outside of SSH; where another program makes the
connection (a jump host, a ProxyCommand) there is nothing that they could look at.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from vfs.base.errors import ConnectError, NoAnswer, UnknownHost
from vfs.commands.doctor.finding import Finding, Result
from vfs.remote.ssh import tcp
from vfs.remote.ssh.destination import Destination
from vfs.remote.ssh.prompts import Deadline
from vfs.remote.ssh.tcp import AddressInfo

CHECKS = ("name", "route", "port", "banner")

NET = Path("/sys/class/net")
USERSPACE = Path("/run/wireguard")
"""Where WireGuard programs without a kernel module keep a socket per interface; see wg(8)."""

_SIOCGIFADDR = 0x8915
"""netdevice(7)"""
_BANNER_BYTES = 8192
"""So much may come before and with the identification of the server; RFC 4253, section 4.2, allows lines before it."""


def look(destination: Destination, seconds: float) -> Iterator[Finding]:
    """The findings of CHECKS in order; ends with the first failure. A step takes `seconds` at most."""
    if destination.by_way_of is not None:
        yield from _not_ours(destination)
        return
    try:
        found = tcp.look_up(destination, Deadline(seconds))
    except UnknownHost as error:
        yield Finding.of_error("name", error, _bring_up_wireguard())
        return
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    told = "is an address" if addresses == [destination.host] else f"is {', '.join(addresses[:4])}"
    yield Finding("name", Result.OK, f"{destination.host} {told}")
    route = _route(found)
    yield route
    if route.result is Result.FAILED:
        return
    deadline = Deadline(seconds)
    try:
        connection = tcp.connect(destination, deadline)
    except ConnectError as error:
        advice = _bring_up_wireguard() if isinstance(error, NoAnswer) else ""
        yield Finding.of_error("port", error, advice)
        return
    with connection:
        yield Finding("port", Result.OK, f"{destination.place} is open")
        yield _banner(connection, destination, Deadline(seconds))


def _not_ours(destination: Destination) -> Iterator[Finding]:
    why = f"skipped ({destination.place} is reached through {destination.by_way_of})"
    for check in CHECKS:
        yield Finding(check, Result.SKIPPED, why if check != "route" else f"{why}; {_wireguard()}")


# --- the route ----------------------------------------------------------------------------------------------------


def _route(found: Sequence[AddressInfo]) -> Finding:
    """The interface that packets would leave by; none is sent."""
    failure: OSError | None = None
    for family, *_, address in found:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(address)
                source = str(probe.getsockname()[0])
        except OSError as error:
            failure = failure or error
            continue
        return through(source)
    why = failure.strerror if failure is not None and failure.strerror else "no address"
    return Finding(
        "route",
        Result.FAILED,
        f"no route to the host: {why.lower()}; {_wireguard()}",
        _bring_up_wireguard() or "Check this machine's network: `ip route`.",
    )


def through(source: str) -> Finding:
    """How packets that leave from this address travel, as far as it is seen."""
    if ipaddress.ip_address(source.partition("%")[0]).is_loopback:
        return Finding("route", Result.OK, f"the server is on this machine; {_wireguard()}")
    name = interface_of(source)
    text = f"packets leave by {name} ({source})" if name else f"packets leave from {source}"
    found = wireguard()
    if found and name not in found and not any(found.values()):
        return Finding("route", Result.WARNING, f"{text}; {_wireguard()}", _bring_up_wireguard())
    return Finding("route", Result.OK, f"{text}; {_wireguard()}")


def interface_of(source: str) -> str | None:
    """The name of the interface that has this address, where the system tells (IPv4 on Linux)."""
    if sys.platform != "linux" or ":" in source:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has no address
                continue
            if socket.inet_ntoa(answer[20:24]) == source:
                return name
    return None


def wireguard() -> dict[str, bool]:
    """The WireGuard interfaces of this machine (Linux), and whether each is up."""
    found: dict[str, bool] = {}
    try:
        interfaces = sorted(NET.iterdir())
    except OSError:
        return {}
    for interface in interfaces:
        try:
            kind = (interface / "uevent").read_text()
            flags = int((interface / "flags").read_text(), 16)
        except (OSError, ValueError):  # it went away
            continue
        if "DEVTYPE=wireguard" in kind.split() or (USERSPACE / f"{interface.name}.sock").exists():
            found[interface.name] = bool(flags & 1)  # IFF_UP, netdevice(7)
    return found


def _wireguard() -> str:
    """What is to be seen of WireGuard, for people."""
    if sys.platform != "linux":
        return "WireGuard is not checked on this system"
    found = wireguard()
    if not found:
        return "no WireGuard interface here"
    return ", ".join(f"WireGuard {name} is {'up' if up else 'down'}" for name, up in found.items())


def _bring_up_wireguard() -> str:
    """What to do first when the server is out of reach; empty if WireGuard is up, or cannot be looked at."""
    found = wireguard()
    if sys.platform != "linux" or any(found.values()):
        return ""
    name = next(iter(found), "NAME")
    return f"If the cluster is behind the VPN, bring it up: `sudo wg-quick up {name}`."


# --- the port -----------------------------------------------------------------------------------------------------


def _banner(connection: socket.socket, destination: Destination, deadline: Deadline) -> Finding:
    """Whether an SSH server greets us."""
    place = destination.place
    said, silent = _first_words(connection, place, deadline)
    lines = said.decode("utf-8", "replace").splitlines()
    greeting = next((line for line in lines if line.startswith("SSH-")), None)
    if greeting is not None:
        return Finding("banner", Result.OK, greeting[:255])
    # what sshd says to one connection too many, and to an address that misbehaved (PerSourcePenalties)
    if not silent and (not lines or "MaxStartups" in lines[0] or "Not allowed" in lines[0]):
        words = f"saying {lines[0][:60]!r}" if lines else "without a message"
        text = (
            f"{place} closed the connection {words}; it has too many (MaxStartups), or bars this address for a while "
            "(PerSourcePenalties)"
        )
        return Finding("banner", Result.FAILED, text, "Try again in a minute.")
    words = f"it says {lines[0][:60]!r}" if lines else "it accepts connections but does not answer"
    text = f"no SSH server at {place}: {words}"
    advice = "Is that the SSH port? Copy the panel's line into `artisync connect` again."
    return Finding("banner", Result.FAILED, text, advice)


def _first_words(connection: socket.socket, place: str, deadline: Deadline) -> tuple[bytes, bool]:
    """What the server says up to its identification, and whether it fell silent before that."""
    said = b""
    while b"SSH-" not in said or not said.endswith(b"\n"):
        try:
            connection.settimeout(deadline.need(place))
            more = connection.recv(1024)
        except (NoAnswer, TimeoutError):
            return said, True
        except OSError:  # it broke the connection off
            return said, False
        said += more
        if not more or len(said) > _BANNER_BYTES:
            break
    return said, False
