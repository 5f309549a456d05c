"""`artisync doctor`: each link of the chain from this machine to an experiment is looked at, one after the other.

    examine.py   the order, and what is skipped when an earlier check failed
    machine.py   this machine: FUSE, profile, disk, cache, mounts
    network.py   the way: host name, route, port, SSH banner
    server.py    over SSH: host key, key, SFTP, root, experiments, clock
    finding.py   what a check found

Nothing is changed anywhere, but for a host key that is remembered if `--accept-new-host-key` is given. What is told
can be pasted: file names, fingerprints, hosts and users, never a key or a passphrase.
"""
