"""A superserver, as tinysshd wants one: PORT PROGRAM ARGUMENTS; the program serves each connection on its stdin and stdout.

Runs on its own, without the project.
"""

import socket
import subprocess
import sys

with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64) as listener:
    while True:
        connection, _ = listener.accept()
        with connection:
            subprocess.Popen(sys.argv[2:], stdin=connection, stdout=connection)
