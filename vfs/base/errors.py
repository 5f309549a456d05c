"""What can fail, and what to tell a person.

Each class's docstring is the sentence for people: the likely cause, and the command to type next. An instance's text
says what exactly failed. Which errno an error becomes for programs is decided in `errnos.py` only.
"""

from __future__ import annotations

import inspect


class ArtisyncError(Exception):
    """Something went wrong; run the command again with `-v` for more."""

    lines = False
    """Whether a line break in the text is one; else it belongs to a name."""

    @property
    def hint(self) -> str:
        """The likely cause and the next step, for people."""
        return inspect.cleandoc(type(self).__doc__ or "").replace("\n", " ")


# --- what the server answers ------------------------------------------------------------------------------------


class RemoteError(ArtisyncError):
    """The server refused the request; its own words are above."""


class NoSuchPath(RemoteError):
    """There is no such file on the server; `artisync ls` shows what is there."""


class EndlessLink(NoSuchPath):
    """Symbolic links on the server lead in a circle; `ls -l` there shows where each of them goes."""


class AccessDenied(RemoteError):
    """The server does not let this user read it; check the permissions there, or log in as another user."""


class NotDirectory(RemoteError):
    """The path is not a directory on the server."""


class NameTooLong(RemoteError):
    """The path, or a name in it, is longer than the server's system takes; a directory nearer to it can be mounted."""


class Unsupported(RemoteError):
    """The server does not know this operation."""


class ServerFailure(RemoteError):
    """The server could not do it (SSH_FX_FAILURE); it may be out of handles or its disk may be failing."""


class ListingTooLong(RemoteError):
    """There are too many files in one directory on the server; those in it can be opened by name."""


class NoSuchExperiment(ArtisyncError):
    """`artisync ls` shows what is there; a sync takes some minutes to appear, `artisync wait EXPERIMENT` waits for
    it."""


class AmbiguousExperiment(ArtisyncError):
    """Type more of the name."""


# --- the link -----------------------------------------------------------------------------------------------------


class LinkError(ArtisyncError):
    """The connection to the server is not working."""


class LinkLost(LinkError):
    """The connection broke while a request was under way; artisync reconnects by itself."""


class ProtocolViolation(LinkLost):
    """The server sent something that is not SFTP; is a shell start-up file printing text on the server?"""

    known = True
    """Whether it is known to have been the answer to the request that this is raised for."""


class Unreachable(LinkError):
    """The host is not answering: is the container running, and is the VPN up? Run `artisync doctor`; if the container
    is a new one, copy the panel's new line into `artisync connect`."""


# --- versions -----------------------------------------------------------------------------------------------------


class StaleVersion(ArtisyncError):
    """The file was replaced on the server; open it again to read the new version."""


class BeingWritten(StaleVersion):
    """The file is being written on the server; try again when that is over."""


# --- connecting ---------------------------------------------------------------------------------------------------


class ConnectError(LinkError):
    """The connection could not be made; run `artisync doctor` to see at which step it fails."""


class UnknownHost(ConnectError):
    """The host name cannot be resolved: check the spelling, and whether the VPN (and its DNS) is up."""


class Refused(ConnectError):
    """Nothing listens on that port: is the container running? A new container has another port: copy the panel's new
    line into `artisync connect`."""


class NoAnswer(ConnectError):
    """No answer from the host: is the VPN up (`wg show`), and is the container running?"""


class HungUp(ConnectError):
    """The host ended the connection while it was being made: is the container starting or stopping? If that goes on, the
    server may have too many connections (MaxStartups), or bar this address for a while (PerSourcePenalties)."""


class NoThread(ConnectError):
    """This machine lets artisync start no more threads; end programs, or raise the limit of processes (`ulimit -u`, a
    container's pids limit)."""

    @staticmethod
    def caused(error: BaseException) -> bool:
        """Whether that is what `threading.Thread.start` raises then."""
        return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


class NeedsOpenssh(ConnectError):
    """The system's `ssh` can do it: install it (Debian: openssh-client), or choose it with `--transport openssh`."""


class AuthRejected(ConnectError):
    """The server lets in only keys that it knows: add your public key in the control panel (`ssh-keygen -t ed25519`
    makes one), or name the right one with `-i`."""


class HostKeyUnknown(ConnectError):
    """The server's host key is not known yet; connect once from a terminal to confirm its fingerprint, or pass
    `--accept-new-host-key`."""


class HostKeyChanged(ConnectError):
    """The server's host key is not the one that was accepted before. If this is a new container behind the same
    address, run `artisync connect --replace-host-key "ssh …"`; otherwise somebody may be listening in."""


class NobodyToAsk(HostKeyChanged):
    """Run the command on a terminal, where the new fingerprint is shown and asked about."""


class HostKeyRevoked(ConnectError):
    """That host key is marked as revoked in a known_hosts file: ask whoever runs the server before connecting."""


class NoSftp(ConnectError):
    """The server lets you in, and no SFTP answers: the container needs an SFTP server (`apt install
    openssh-sftp-server`) and `Subsystem sftp internal-sftp` in its sshd_config, and no shell start-up file there may
    print text."""


class KeyFileUnusable(ConnectError):
    """No login is tried with that key file; put it right, or name another one with `-i`."""


class PassphraseNeeded(ConnectError):
    """Load the key into the agent with `ssh-add`, or run the command on a terminal, where the passphrase is asked
    for."""


class RootUnusable(ConnectError):
    """The directory of artifacts is not there or not readable on the server: click "sync" in the control panel and
    wait some minutes, or name another directory with `--remote-root`."""


# --- on this machine ----------------------------------------------------------------------------------------------


class UsageError(ArtisyncError):
    """The command was given something it cannot understand; see `artisync COMMAND --help`."""


class ConfigError(ArtisyncError):
    """The profile cannot be used; `artisync connect "ssh …"` writes it anew."""


class ProfileInUse(ConfigError):
    """Unmount it first, with `artisync unmount`."""


class MountError(ArtisyncError):
    """The mount could not be made or ended; run the command again with `-v` for more."""


class FuseMissing(MountError):
    """FUSE 3 is not usable here; on Debian and Ubuntu: `sudo apt install fuse3 libfuse3-3`. Without FUSE, `artisync
    pull` copies the files."""


class NfsMissing(MountError):
    """Without NFS, mount by FUSE (`--via fuse`); without either, `artisync pull` copies the files."""


class MountPointUnusable(MountError):
    """Choose an empty directory of your own as the mount point."""


class MountPointTaken(MountPointUnusable):
    """`artisync unmount` ends a mount of artisync; else choose an empty directory of your own as the mount point."""


class WaitedTooLong(ArtisyncError):
    """A sync takes minutes to appear; was it started in the control panel? `artisync ls` shows what is there."""


class NeverQuiet(WaitedTooLong):
    """Is the training or the sync still going on? A shorter `--settle`, or a longer `--timeout`, may do."""


class TensorBoardMissing(ArtisyncError):
    """Install it where artisync can find it: `pip install tensorboard`, or for a command of its own `pipx install
    tensorboard`."""


class TensorBoardFailed(ArtisyncError):
    """TensorBoard ended by itself; its last words are above."""

    lines = True


class PortInUse(ArtisyncError):
    """Another program (an older TensorBoard?) listens there; leave `--port` out to have a free one chosen."""


class PortForbidden(ArtisyncError):
    """Ports below 1024 are the administrator's; leave `--port` out to have a free one chosen."""


class DestinationUnusable(ArtisyncError):
    """Name a directory of this machine that can be written, with room for the files."""


class ChangedHere(ArtisyncError):
    """It was changed here, and is left as it is; `--overwrite` replaces it."""


class InTheWay(ArtisyncError):
    """Move it away, and pull again."""


class StateUnusable(ArtisyncError):
    """Make room there, or name a directory that can be written with XDG_STATE_HOME."""


class DestinationBusy(ArtisyncError):
    """Wait until it is over, or pull into another directory."""


class UnreadableFormat(ArtisyncError):
    """`artisync inspect` knows PyTorch checkpoints, safetensors, NumPy arrays, zip, Parquet and HDF5 files, and
    TensorBoard's event files; this is none, or its first bytes are damaged."""


class CacheUnusable(ArtisyncError):
    """Name another directory with `--cache-dir`, or put this one right."""


class NoCache(CacheUnusable):
    """The first command that reads from the server makes it; `--cache-dir` names another one."""


class NotMounted(ArtisyncError):
    """artisync has nothing mounted there; `artisync status` shows what is."""


class MountBusy(MountError):
    """Programs have files open in the mount or work in it (`fuser -vm` shows them): leave it, or `artisync unmount
    --force`."""


class MountSilent(ArtisyncError):
    """The mount's process is not answering; `artisync unmount --force` ends it."""


class CannotControl(ArtisyncError):
    """The control socket cannot be made; check the directory's permissions, or set XDG_RUNTIME_DIR to one of yours."""
