"""Runs a command in a terminal of its own: terminal.py ROWS COLS ROWS2 COLS2 COMMAND...

With HOLD in the environment it begins when there is a file of that name. After three refreshes the terminal gets its second size, after two more Ctrl-C is pressed. Says what
came, a line each: FRAME and the bytes between two clear sequences in hex (SIZE between those of the
two sizes), STATUS and the exit status, TERMIOS and whether the terminal is as it was.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

CLEAR = b"\x1b[1;1H\x1b[J"


def resize(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def main():
    signal.alarm(600)
    sizes = [int(word) for word in sys.argv[1:5]]
    master, slave = pty.openpty()
    resize(master, sizes[0], sizes[1])
    before = termios.tcgetattr(slave)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in range(3):
            os.dup2(slave, fd)
        os.environ["TERM"] = "vt100"
        os.execvp(sys.argv[5], sys.argv[5:])

    seen = b""

    def wait_for(clears):
        nonlocal seen
        deadline = time.monotonic() + 300
        while seen.count(CLEAR) < clears and time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 65536)
        return seen.count(CLEAR)

    def frames(data):
        for frame in data.split(CLEAR)[1:]:
            print("FRAME", frame.hex())

    hold = os.environ.get("HOLD")
    while hold and not os.path.exists(hold):
        if select.select([master], [], [], 0.01)[0]:
            seen += os.read(master, 65536)
    # A frame is whole when the next one has begun. On a busy machine the first ones come before everything is read.
    wait_for(seen.count(CLEAR) + 4)
    while b"still reading" in seen.split(CLEAR)[-2]:
        wait_for(seen.count(CLEAR) + 1)
    begin = seen.rfind(b"still reading")
    if begin >= 0:
        seen = seen[seen.find(CLEAR, begin) :]
        wait_for(4)
    frames(seen[: seen.rfind(CLEAR)])
    print("SIZE")
    at = len(seen)
    resize(master, sizes[2], sizes[3])
    wait_for(seen.count(CLEAR) + 3)
    frames(seen[at : seen.rfind(CLEAR)])
    os.write(master, b"\x03")
    status = os.waitpid(pid, 0)[1]
    print("STATUS", os.waitstatus_to_exitcode(status))
    print("TERMIOS", "same" if termios.tcgetattr(slave) == before else "changed")


main()
