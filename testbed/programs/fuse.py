"""Mounts a FUSE file system, runs a program, and ends with its status.

    fuse.py FOLDER USER PROGRAM ARGUMENT...

The file system is USER's, as if fusermount had mounted it. All in it seems to belong to root: the file `cfg`,
and the link `link`, which leads to `of-root` in the folder above. To be run in a mount namespace of its own.
"""

import ctypes
import os
import struct
import subprocess
import sys
import threading

TEXT = b"[N]\nprocess_filter=x\n"
TARGET = b"../of-root"
# The inodes: mode and size.
INODES = {1: (0o40755, 0), 2: (0o100644, len(TEXT)), 3: (0o120777, len(TARGET))}
NAMES = {b"cfg": 2, b"link": 3}
# Of linux/fuse.h.
LOOKUP, FORGET, GETATTR, READLINK, OPEN, READ, STATFS, RELEASE, FLUSH, INIT = 1, 2, 3, 5, 14, 15, 17, 18, 25, 26
INTERRUPT, BATCH_FORGET = 36, 42
ENOENT, ENOSYS = 2, 38


def attributes(inode):
    """struct fuse_attr"""
    mode, size = INODES[inode]
    return struct.pack("<6Q10I", inode, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(operation, inode, body):
    """The error number and what follows the header of the answer."""
    if operation == INIT:
        return 0, struct.pack("<4I2H2I2H8I", 7, 31, 65536, 0, 12, 10, 65536, 1, 1, 0, *[0] * 8)
    if operation == LOOKUP:
        found = NAMES.get(body.split(b"\0")[0])
        entry = struct.pack("<4Q2I", found or 0, 0, 60, 60, 0, 0)
        return (0, entry + attributes(found)) if found else (ENOENT, b"")
    if operation == GETATTR:
        return 0, struct.pack("<Q2I", 60, 0, 0) + attributes(inode)
    if operation == READLINK:
        return 0, TARGET
    if operation == OPEN:
        return 0, struct.pack("<Q2I", 1, 0, 0)
    if operation == READ:
        return 0, TEXT[struct.unpack("<2Q", body[:16])[1]:]
    if operation == STATFS:
        return 0, bytes(80)
    return (0, b"") if operation in (RELEASE, FLUSH) else (ENOSYS, b"")


def serve(device):
    while True:
        try:
            request = os.read(device, 1 << 18)
        except OSError:
            return  # unmounted
        operation, unique, inode = struct.unpack("<IQQ", request[4:24])
        if operation not in (FORGET, INTERRUPT, BATCH_FORGET):
            error, data = answer(operation, inode, request[40:])
            try:
                os.write(device, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)
            except FileNotFoundError:
                pass  # who asked has ended


folder, user = sys.argv[1:3]
device = os.open("/dev/fuse", os.O_RDWR)
os.mkdir(folder)
options = f"fd={device},rootmode=40000,user_id={user},group_id={user},allow_other"
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"test", folder.encode(), b"fuse", 0, options.encode()):
    sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
threading.Thread(target=serve, args=[device], daemon=True).start()
status = subprocess.run(sys.argv[3:]).returncode
libc.umount2(folder.encode(), 2)
os.rmdir(folder)
sys.exit(status)
