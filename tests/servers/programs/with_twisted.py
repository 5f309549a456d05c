"""Twisted Conch's server: PORT HOST_KEY AUTHORIZED_KEYS. Runs on its own, without the project."""

import os
import pwd
import sys

from twisted.conch import checkers
from twisted.conch.ssh import factory, keys
from twisted.conch.unix import UnixSSHRealm
from twisted.cred.portal import Portal
from twisted.internet import reactor


class Keys:
    def __init__(self, path: str) -> None:
        self.path = path

    def getAuthorizedKeys(self, username: bytes) -> list[keys.Key]:  # noqa: N802
        with open(self.path, "rb") as file:
            return [keys.Key.fromString(line) for line in file]


def main(port: str, host_key: str, authorized_keys: str) -> None:
    assert pwd.getpwuid(os.getuid())
    served = factory.SSHFactory()
    key = keys.Key.fromFile(host_key)
    served.publicKeys = {key.sshType(): key.public()}
    served.privateKeys = {key.sshType(): key}
    served.portal = Portal(UnixSSHRealm(), [checkers.SSHPublicKeyChecker(Keys(authorized_keys))])
    reactor.listenTCP(int(port), served, interface="127.0.0.1")
    reactor.run()


main(*sys.argv[1:])
