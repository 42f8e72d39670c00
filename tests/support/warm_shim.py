"""Ask `warm` for a command, and be it to whoever started this. Standard library alone: it starts quickly."""

import json
import os
import signal
import socket
import struct
import sys

connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
mask = os.umask(0)
os.umask(mask)
asked = json.dumps(
    {
        "kind": sys.argv[2],
        "arguments": sys.argv[3:],
        "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes as long as all the rest
        "umask": mask,
        "environment": dict(os.environ),
    }
).encode()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: connection.send(bytes([number])))
socket.send_fds(connection, [struct.pack("!q", len(asked))], [0, 1, 2])
connection.sendall(asked)
answer = b""
while len(answer) < 4:
    part = connection.recv(4 - len(answer))
    if not part:
        sys.exit("the server of warm commands is gone")
    answer += part
code = struct.unpack("!i", answer)[0]
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
