"""Twisted Conch's server: PORT HOST_KEY AUTHORIZED_KEYS. Runs on its own, without the project."""

import os
import pwd
import sys

from twisted.conch import checkers
from twisted.conch.ssh import factory, keys
from twisted.conch.unix import UnixSSHRealm
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.python.filepath import FilePath


class Keys:
    def __init__(self, path: str) -> None:
        self.path = path

    def getAuthorizedKeys(self, username: bytes) -> list[keys.Key]:  # noqa: N802
        with open(self.path, "rb") as file:
            return [keys.Key.fromString(line) for line in file]


class Realm(UnixSSHRealm):
    """What Conch's own needs `home` to be a path of Twisted's for, it has as text: relative paths."""

    def requestAvatar(self, username: bytes, mind: object, *interfaces: object) -> object:  # noqa: N802
        interface, avatar, logout = super().requestAvatar(username, mind, *interfaces)
        avatar.getHomeDir = lambda: FilePath(pwd.getpwuid(os.getuid()).pw_dir)
        return interface, avatar, logout


def main(port: str, host_key: str, authorized_keys: str) -> None:
    assert pwd.getpwuid(os.getuid())
    served = factory.SSHFactory()
    key = keys.Key.fromFile(host_key)
    served.publicKeys = {key.sshType(): key.public()}
    served.privateKeys = {key.sshType(): key}
    served.portal = Portal(Realm(), [checkers.SSHPublicKeyChecker(Keys(authorized_keys))])
    reactor.listenTCP(int(port), served, interface="127.0.0.1")
    reactor.run()


main(*sys.argv[1:])
