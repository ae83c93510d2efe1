"""ping_once.py NAME raw|dgram|PROTOCOL HOST SIZE

One ICMP echo request and its answer, through a raw or a ping socket, or one packet of another protocol
that nobody answers. It lives for a few milliseconds.
"""
import os
import socket
import struct
import sys

name, kind, host, size = sys.argv[1:5]
six, data = ":" in host, bytes(int(size))
family = socket.AF_INET6 if six else socket.AF_INET
if kind not in ("raw", "dgram"):
    socket.socket(family, socket.SOCK_RAW, int(kind)).sendto(data, (host, 0))
    sys.exit()
protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
sock = socket.socket(family, socket.SOCK_RAW if kind == "raw" else socket.SOCK_DGRAM, protocol)
packet = struct.pack("!BBHHH", 128 if six else 8, 0, 0, os.getpid() & 0xFFFF, 1) + data
if not six:
    words = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    words = (words & 0xFFFF) + (words >> 16)
    packet = packet[:2] + struct.pack("!H", ~words & 0xFFFF) + packet[4:]
sock.sendto(packet, (host, 0))
sock.settimeout(5)
sock.recv(65536)
