"""`artisync demo`: a loopback server with two generated experiments, mounted, without a cluster.

server.py      an SFTP server in a process of its own; it owns the demo's temporary directory
artifacts.py   two experiments in the guide's layout, and the log of a training that is running writing them
events.py      TensorBoard's event files, written without TensorBoard
checkpoint.py  torch's checkpoints, written without torch
run.py         starts the server, mounts it, says what to try, leaves nothing behind
"""
