"""Processes whose names are easily lost. Each datagram to the loopback device's port 9 has 1,000 bytes.

usage: names.py KIND [ARGUMENT]
"""
import ctypes
import os
import platform
import socket
import sys
import threading
import time


def peer():
    to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    to.connect(("127.0.0.1", 9))
    return to


def send(to, count, pause=0.0):
    for _ in range(count):
        try:
            to.send(b"x" * 972)
        except ConnectionRefusedError:
            to.send(b"x" * 972)  # nobody listens: the answer to the one before
        time.sleep(pause)


def clients(count):
    """Copies that make a socket in their first moment, and end at any moment of a refresh."""
    for number in range(int(count)):
        time.sleep(0.05)
        while time.clock_gettime(time.CLOCK_BOOTTIME) % 0.01 > 0.001:
            pass  # the clock tick in which the process starts is that of its socket
        if os.fork() == 0:
            send(peer(), 300, 0.005 + number * 0.0003)
            os._exit(0)
    for _ in range(int(count)):
        os.wait()


def connections(count):
    """One connection after the other, to whoever serves."""
    for _ in range(int(count)):
        with socket.create_connection(("10.77.0.2", 9000)) as to:
            to.sendall(b"x" * 500)
            while to.recv(10):  # the server closes first
                pass


def serve(_):
    listener = socket.create_server(("10.77.0.2", 9000), backlog=100)
    while True:
        to, _ = listener.accept()
        with to:
            to.recv(500, socket.MSG_WAITALL)
            to.sendall(b"x")


def wait(until):
    """For so many seconds, or for a file."""
    try:
        time.sleep(float(until))
    except ValueError:
        while not os.path.exists(until):
            time.sleep(0.01)


def silent(until):
    to = peer()
    wait(until)
    send(to, 50)


def zombie(_):
    """Its child is a program of its own that ends at once, and that nobody waits for."""
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "names.py", "child"])
    time.sleep(3)


def child(_):
    send(peer(), 50)


def fork(until):
    """Its child is a copy that ends at once, and that nobody waits for. It has no socket itself."""
    wait(until)
    if os.fork() == 0:
        send(peer(), 50)
        os._exit(0)
    time.sleep(2)


def set_title(title):
    """Writes over the arguments, as Perl, PostgreSQL and nginx do."""
    with open("/proc/self/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    start, end = int(fields[48 - 3]), int(fields[49 - 3])
    title = title.encode()[: end - start - 1]
    ctypes.memmove(start, title.ljust(end - start, b"\0"), end - start)


def titled(title):
    set_title(title)
    to = peer()
    send(to, 25)
    time.sleep(1)
    send(to, 25)


def titled_late(title):
    """Ends without having been looked at since."""
    to = peer()
    send(to, 25)
    set_title(title)
    send(to, 25)


def renaming(count):
    """Another title for each 20,000 bytes."""
    to = None
    for number in range(int(count)):
        set_title("title %d" % number)
        to = to or peer()
        send(to, 20, 0.005)


def leaderless(_):
    """Its main thread ends, and another one goes on."""

    def go_on():
        time.sleep(1)
        to = peer()
        send(to, 25, 0.02)
        time.sleep(1)
        send(to, 25, 0.02)
        os._exit(0)

    threading.Thread(target=go_on).start()
    number = {"x86_64": 60, "aarch64": 93}[platform.machine()]  # exit(2), of one thread
    ctypes.CDLL(None).syscall(number, 0)


globals()[sys.argv[1]](*sys.argv[2:] or [""])
