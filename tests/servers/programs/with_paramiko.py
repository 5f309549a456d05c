"""A server of paramiko's parts: PORT HOST_KEY AUTHORIZED_KEYS. Real paths are only tidied. Runs without the project."""

import os
import socket
import sys
import threading

import paramiko

FLAGS = paramiko.SFTPAttributes.FLAG_SIZE


class Login(paramiko.ServerInterface):
    def __init__(self, key: str) -> None:
        self.key = key

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if key.get_base64() == self.key else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


class Handle(paramiko.SFTPHandle):
    def stat(self) -> object:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


def told(work: object) -> object:
    def wrapped(self: object, *words: object) -> object:
        try:
            return work(self, *words)  # type: ignore[operator]
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 5)

    return wrapped


class Files(paramiko.SFTPServerInterface):
    @told
    def list_folder(self, path: str) -> object:
        found = []
        for name in os.listdir(path):
            attributes = paramiko.SFTPAttributes.from_stat(os.lstat(os.path.join(path, name)))
            attributes.filename = name
            found.append(attributes)
        return found

    @told
    def stat(self, path: str) -> object:
        return paramiko.SFTPAttributes.from_stat(os.stat(path))

    @told
    def lstat(self, path: str) -> object:
        return paramiko.SFTPAttributes.from_stat(os.lstat(path))

    @told
    def open(self, path: str, flags: int, attributes: object) -> object:
        handle = Handle(flags)
        handle.readfile = open(path, "rb")  # noqa: SIM115
        return handle

    @told
    def readlink(self, path: str) -> object:
        return os.readlink(path)


def serve(client: socket.socket, host_key: paramiko.PKey, key: str) -> None:
    transport = paramiko.Transport(client)
    transport.add_server_key(host_key)
    transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files)
    transport.start_server(event=threading.Event(), server=Login(key))


def main(port: str, host_key: str, authorized_keys: str) -> None:
    with open(authorized_keys) as file:
        key = file.read().split()[1]
    listener = socket.create_server(("127.0.0.1", int(port)))
    while True:
        serve(listener.accept()[0], paramiko.Ed25519Key(filename=host_key), key)


main(*sys.argv[1:])
