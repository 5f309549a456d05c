"""The panel's line, as people paste it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.base.address import Address
from vfs.base.errors import UsageError


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ssh -p 30022 user@host", Address("host", 30022, "user")),
        ("-p 30022 user@host", Address("host", 30022, "user")),
        ("  ssh  -p30022   user@host ", Address("host", 30022, "user")),
        ("$ ssh -p 30022 user@host", Address("host", 30022, "user")),
        ("/usr/bin/ssh user@host", Address("host", None, "user")),
        ("ssh user@host -p 30022", Address("host", 30022, "user")),
        ("ssh -l user host -p 7", Address("host", 7, "user")),
        ("ssh -luser host", Address("host", None, "user")),
        ("cluster", Address("cluster")),
        ("ssh -- cluster", Address("cluster")),
        ("ssh://user@host:30022", Address("host", 30022, "user")),
        ("ssh ssh://user@host/", Address("host", None, "user")),
        ("ssh ssh://us%2Ber@[::1]:22", Address("::1", 22, "us+er")),
        ("ssh user@[::1]", Address("::1", None, "user")),
        ("ssh user@::1", Address("::1", None, "user")),
        ("ssh fe80::1%eth0 -p 22", Address("fe80::1%eth0", 22)),
        ("ssh someone@corp.example@host.example.", Address("host.example.", None, "someone@corp.example")),
        ("ssh -i /k/id -i ~/.ssh/b host", Address("host", keys=("/k/id", "~/.ssh/b"))),
        ("ssh -i '/k/with space' host", Address("host", keys=("/k/with space",))),
        ("ssh -J me@gate:2200,inner host", Address("host", jump="me@gate:2200,inner")),
        ("ssh -Jgate host", Address("host", jump="gate")),
        ("ssh -oPort=1 host", Address("host", 1)),
        ("ssh -o 'Port 1' host", Address("host", 1)),
        (
            "ssh -o user=me -o identityfile=/k -o proxyjump=gate host",
            Address("host", None, "me", ("/k",), "gate"),
        ),
        (
            "ssh -c aes256-ctr -m hmac-sha2-512 host",
            Address("host", options=(("Ciphers", "aes256-ctr"), ("MACs", "hmac-sha2-512"))),
        ),
        (
            "ssh -o HostKeyAlias=a -oCiphers=b host",
            Address("host", options=(("HostKeyAlias", "a"), ("Ciphers", "b"))),
        ),
        ("ssh -t -A -v -N -4 host", Address("host")),
        ("ssh -tAvvN4 host", Address("host")),
        ("ssh -NL 6006:localhost:6006 -D1080 -p 22 host", Address("host", 22)),
        ("ssh -vp 30022 host", Address("host", 30022)),
    ],
)
def test_the_line_is_understood(line: str, expected: Address) -> None:
    assert Address.parse(line) == expected


def test_words_are_taken_as_a_shell_split_them() -> None:
    assert Address.parse(["ssh", "-p", "30022", "user@host"]) == Address("host", 30022, "user")
    assert Address.parse(["ssh -p 30022 user@host"]) == Address("host", 30022, "user")
    assert Address.parse(["ssh", "-i", "/k/with space", "host"]).keys == ("/k/with space",)


def test_the_first_of_two_values_counts_as_for_ssh() -> None:
    assert Address.parse("ssh -p 1 -p 2 -l a b@host") == Address("host", 1, "a")
    assert Address.parse("ssh -p 1 ssh://u@host:2") == Address("host", 1, "u")


def test_a_relative_key_file_becomes_absolute() -> None:
    assert Address.parse("ssh -i keys/id host").keys == (os.path.abspath("keys/id"),)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "names no host"),
        ("ssh", "names no host"),
        ("ssh -p 22", "names no host"),
        ("ssh 'host", "cannot be parsed"),
        ("ssh -p", "-p needs a value"),
        ("ssh host -i", "-i needs a value"),
        ("ssh -p 0 host", "'0' is not a port"),
        ("ssh -p 65536 host", "'65536' is not a port"),
        ("ssh -p ten host", "'ten' is not a port"),
        ("ssh -p ٣ host", "is not a port"),
        ("ssh host:30022", "write `-p 30022`"),
        ("ssh user@[::1]:22", "write `-p 22`"),
        ("ssh host ls -l /shared", "'ls -l /shared' follows the host"),
        ("ssh host -- tmux", "'tmux' follows the host"),
        ("ssh -W a:1 host", "unknown option -W"),
        ("ssh -F cfg host", "unknown option -F"),
        ("ssh -tZ host", "unknown option -Z"),
        ("ssh --port 22 host", "'--port' is not an option"),
        ("ssh -o Port host", "Key=Value"),
        ("ssh -o =x host", "Key=Value"),
        ("ssh -oPort=x host", "-o Port: 'x' is not a port"),
        ("ssh -- -oProxyCommand=x", "not a host's name"),
        ("ssh user@", "the host's name is empty"),
        ("ssh @host", "'' is not a user's name"),
        ("ssh 'a b'@host", "not a user's name"),
        ("ssh 'a`id`'@host", "not a user's name"),
        ("ssh 'ho;st'", "not a host's name"),
        ("ssh -o 'HostName=$(id)' host", "not a host's name"),
        ("ssh ssh://host/path", "--remote-root"),
        ("ssh ssh://host:", "no port after the colon"),
        ("ssh ssh://host:x", "'x' is not a port"),
        ("ssh -J '' host", "-J needs a value"),
        ("ssh -J a,,b host", "-J 'a,,b'"),
        ("ssh -J 'a;id' host", "not a host's name"),
        ("ssh -i 'a\nb' host", "control character"),
    ],
)
def test_what_is_not_understood_is_named(line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Address.parse(line)
    assert said in str(caught.value)


def test_a_jump_is_taken_apart_in_the_order_of_passing() -> None:
    assert Address.parse_jump("me@a:2,ssh://b:3,[::1]:4") == (
        Address("a", 2, "me"),
        Address("b", 3),
        Address("::1", 4),
    )
    assert Address.parse_jump("none") == ()


_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,20}[A-Za-z0-9]", fullmatch=True)
_texts = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x17F, exclude_categories=["Cc", "Zs"]),
    min_size=1,
    max_size=20,
)


@given(
    st.builds(
        Address,
        host=_names | st.just("::1"),
        port=st.none() | st.integers(1, 65535),
        user=st.none() | _names,
        keys=st.lists(_texts.map(lambda t: "/" + t), max_size=3).map(tuple),
        jump=st.none() | _names,
        options=st.lists(
            st.tuples(st.sampled_from(["HostKeyAlias", "ProxyCommand", "Ciphers"]), _texts), max_size=3
        ).map(tuple),
    )
)
def test_the_canonical_line_is_taken_back_to_the_same_address(address: Address) -> None:
    assert Address.parse(address.line()) == address


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except UsageError:
        return
    assert Address.parse(address.line()) == address
