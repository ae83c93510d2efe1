"""mptcp.py NAME server PROTOCOL HOST PORT [FILE]
mptcp.py NAME client PROTOCOL HOST PORT COUNT SIZE BEFORE AFTER [DEVICE]

A TCP (6) or MPTCP (262) server reads what it gets and closes when the client has ended its direction. With
FILE it accepts a single connection when there is such a file, and reads nothing.

A client makes COUNT connections one after the other and sends SIZE bytes on each. It waits BEFORE seconds
after the first byte of each, and AFTER seconds after the last one. Its sockets are bound to DEVICE, if
there is one.

Set up, a server prints READY; a client ends when it has done so, a server after five minutes.
"""
import os
import signal
import socket
import sys
import time

signal.alarm(300)
name, role, protocol, host, port = sys.argv[1:6]
protocol, port = int(protocol), int(port)
family = socket.AF_INET6 if ":" in host else socket.AF_INET
sock = socket.socket(family, socket.SOCK_STREAM, protocol)
if role == "server":
    sock.bind((host, port))
    sock.listen(20)
    print("READY", flush=True)
    if sys.argv[6:]:
        # Who has children may hand on what it accepts: nobody can know yet whose a connection will be.
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        while not os.path.exists(sys.argv[6]):
            time.sleep(0.01)
        accepted, _ = sock.accept()
        time.sleep(300)
    while True:
        accepted, _ = sock.accept()
        while accepted.recv(65536):
            pass
        accepted.close()
count, size, before, after = int(sys.argv[6]), int(sys.argv[7]), float(sys.argv[8]), float(sys.argv[9])
for index in range(count):
    if index:
        sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    for device in sys.argv[10:]:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    sock.connect((host, port))
    sock.sendall(b"x")
    time.sleep(before)
    sock.sendall(b"x" * (size - 1))
    time.sleep(after)
    sock.shutdown(socket.SHUT_WR)
    sock.recv(1)
    sock.close()
