"""Network traffic of known size by processes of known name, for the integration tests.

    workload.py NAME ROLE [KEY=VALUE]...

NAME only makes the command line recognisable; it stands first because the program under test
cuts command lines. The process is called so too. Set up, a role prints READY. It obeys lines on
stdin (go, close, reset, quit) and ends at stdin's end; whatever happens, it ends after ten minutes. A
client's `go` is one exchange, after which it prints `DONE SENT RECEIVED`: its payload bytes so far.

TCP: the client announces an exchange in a header, both sides then send at once, and the server
ends it with one byte more when it has everything. So a client sends HEADER.size + up and receives
down + 1. A role that forks calls its parent `...-parent` and its children `...-child0`,
`...-child1`: the length stays, because a command line is renamed in place.
"""

import ctypes
import errno
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time

LIFE = 600
CHUNKS = 20
HEADER = struct.Struct("!QQd")
BLOCK = bytes(1 << 16)
IPPROTO_MPTCP = 262


def say(*words):
    # One write each, so that lines of several processes stay whole.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Commands:
    """Lines of stdin, without a buffer that select() cannot see."""

    def __init__(self):
        self.rest = b""

    def fileno(self):
        return 0

    def read(self):
        while b"\n" not in self.rest:
            more = os.read(0, 4096)
            if not more:
                return "quit"
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()


def call(name):
    """Names this process where no command line is looked at."""
    with open("/proc/self/comm", "wb", buffering=0) as comm:
        comm.write(name[:15])


def rename(old, new):
    """Changes this process's command line where the kernel reads it."""
    old, new = os.fsencode(old), os.fsencode(new)
    assert len(old) == len(new)
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rsplit(b")", 1)[1].split()
    start, end = int(fields[45]), int(fields[46])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start)
        at = memory.read(end - start).index(old)
        memory.seek(start + at)
        memory.write(new)


def fork(name, index):
    """Forks; the child gets its own name and its own life limit (alarms are not inherited)."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(LIFE)
        renamed = name.removesuffix("parent") + f"child{index}"
        rename(name, renamed)
        call(os.fsencode(renamed))
    return pid


def due(total, seconds, start):
    """How much of `total` should have been sent by now: CHUNKS equal steps."""
    if seconds == 0:
        return total
    step = 1 + int((time.monotonic() - start) * CHUNKS / seconds)
    return min(total, -(-total // CHUNKS) * step)


def send(sock, size):
    return sock.send(BLOCK[:size], socket.MSG_DONTWAIT)


def receive(sock, size):
    return len(sock.recv(size))


def stored():
    """A file to send from."""
    file = os.memfd_create("block")
    os.write(file, BLOCK)
    return file


def by_sendfile():
    file = stored()
    return lambda sock, size: os.sendfile(sock.fileno(), file, 0, min(size, len(BLOCK))), receive


def by_splice():
    """Through pipes, which take as much as a block."""
    file, nowhere = stored(), os.open(os.devnull, os.O_WRONLY)
    here, there = os.pipe()

    def through(source, to, size, **offset):
        size = os.splice(source, there, min(size, len(BLOCK)), **offset)
        left = size
        while left > 0:
            left -= os.splice(here, to, left)
        return size

    return (
        lambda sock, size: through(file, sock.fileno(), size, offset_src=0),
        lambda sock, size: through(sock.fileno(), nowhere, size),
    )


WAYS = {None: lambda: (send, receive), "sendfile": by_sendfile, "splice": by_splice}


def exchange(sock, send, receive, seconds, way=WAYS[None]()):
    """Sends and receives that many bytes at once, the sending spread over `seconds`."""
    sent = received = 0
    start = time.monotonic()
    while sent < send or received < receive:
        now_due = due(send, seconds, start)
        readable, writable, _ = select.select(
            [sock] if received < receive else [], [sock] if sent < now_due else [], [], 0.01
        )
        if readable:
            part = way[1](sock, min(receive - received, len(BLOCK)))
            if not part:
                raise EOFError("the other side closed early")
            received += part
        if writable:
            sent += way[0](sock, now_due - sent)


def receive_exactly(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            return None
        data += part
    return data


def serve(sock):
    """Answers exchanges on one connection until the client closes it."""
    try:
        while header := receive_exactly(sock, HEADER.size):
            up, down, seconds = HEADER.unpack(header)
            exchange(sock, down, up, seconds)
            sock.sendall(b".")
    except ConnectionError:
        pass
    sock.close()


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def stay():
    """Lives on, holding what it holds, until the harness or the alarm ends it."""
    while True:
        signal.pause()


def stream_socket(host, options):
    """TCP; mptcp: MPTCP."""
    protocol = IPPROTO_MPTCP if "mptcp" in options else 0
    return socket.socket(family(host), socket.SOCK_STREAM, protocol)


def listener(options):
    host = options.get("host", "0.0.0.0")
    sock = stream_socket(host, options)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if options.get("mode") == "reuseport":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family(host) == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, "dual" not in options)
    sock.bind((host, int(options["port"])))
    sock.listen(int(options.get("backlog", 16)))
    return sock


def reuseport_workers(name, options):
    listeners = [listener(options) for _ in range(int(options["workers"]))]
    for index, listening in enumerate(listeners):
        if fork(name, index) == 0:
            for other in listeners:
                if other is not listening:
                    other.close()
            while True:
                sock, _ = listening.accept()
                say("ACCEPTED", f"child{index}")
                # The kernel chose the socket, whether or not its worker is busy.
                threading.Thread(target=serve, args=[sock], daemon=True).start()
    for listening in listeners:
        listening.close()


def tcp_server(name, options):
    """mode=plain: one connection at a time; threaded; forking; preforked (workers=N), all at one
    listening socket; reuseport (workers=N), each at its own. late=S: it accepts each S seconds after
    the first one has come."""
    mode = options.get("mode", "plain")
    if mode == "reuseport":
        reuseport_workers(name, options)
        say("READY")
        while commands.read() != "quit":
            pass
        return
    listening = listener(options)
    if mode == "preforked":
        for index in range(int(options["workers"])):
            if fork(name, index) == 0:
                while True:
                    sock, _ = listening.accept()
                    say("ACCEPTED", f"child{index}")
                    serve(sock)
    say("READY")
    children = 0
    watched = [commands] if mode == "preforked" else [commands, listening]
    while True:
        readable, _, _ = select.select(watched, [], [])
        if commands in readable and commands.read() == "quit":
            return
        if listening not in readable:
            continue
        if "late" in options:
            time.sleep(float(options["late"]))
            options = {**options, "late": 0}
        sock, _ = listening.accept()
        if mode == "plain":
            serve(sock)
        elif mode == "threaded":
            threading.Thread(target=serve, args=[sock], daemon=True).start()
        else:
            if fork(name, children) == 0:
                listening.close()
                serve(sock)
                stay()
            sock.close()
            # Only now nobody else holds it.
            say("ACCEPTED", f"child{children}")
            children += 1


def connect(options):
    sock = stream_socket(options["host"], options)
    if "local" in options:
        sock.bind(("", int(options["local"])))
    sock.connect((options["host"], int(options["port"])))
    return sock


def connect_all(options, count):
    """So many connections at once: a handshake that takes long holds up no other one."""
    address = (options["host"], int(options["port"]))
    socks = [stream_socket(options["host"], options) for _ in range(count)]
    for sock in socks:
        sock.setblocking(False)
        assert sock.connect_ex(address) in (0, errno.EINPROGRESS)
    for sock in socks:
        select.select([], [sock], [])
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        sock.setblocking(True)
    return socks


def tcp_client(name, options):
    """up=, down= bytes, spread over seconds=, by=sendfile|splice; from port local=. pass=close|keep: a child, forked before the socket
    exists, gets it over a unix socket and uses it; this process closes or keeps its copy. ends: the
    process ends with its first exchange. more=, less=: up and down of every exchange but the first."""
    up, down = int(options.get("up", 0)), int(options.get("down", 0))
    seconds = float(options.get("seconds", 0))
    passing = options.get("pass")
    way = WAYS[options.get("by")]()
    if passing:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        if fork(name, 0) != 0:
            sock = connect(options)
            socket.send_fds(ours, [b"."], [sock.fileno()])
            if passing == "close":
                sock.close()
            theirs.close()
            ours.recv(1)
            say("READY")
            stay()
        ours.close()
        _, descriptors, _, _ = socket.recv_fds(theirs, 1, 1)
        sock = socket.socket(fileno=descriptors[0])
        theirs.send(b".")
    else:
        sock = connect(options)
        say("READY")
    sent = received = 0
    while (command := commands.read()) != "quit":
        if command == "go":
            sock.sendall(HEADER.pack(up, down, seconds))
            exchange(sock, up, down + 1, seconds, way)
            sent += HEADER.size + up
            received += down + 1
            say("DONE", sent, received)
            if "ends" in options:
                os._exit(0)
            up, down = int(options.get("more", up)), int(options.get("less", down))
        elif command == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            say("CLOSED")
        elif command == "close":
            sock.close()
            say("CLOSED")


def tcp_churn(name, options):
    """An exchange of up= and down= bytes on each of count= connections, one after the other, which
    reset: ends by a reset, so that its tuple can be used again at once."""
    up, down = int(options.get("up", 0)), int(options.get("down", 0))
    say("READY")
    sent = received = 0
    while commands.read() != "quit":
        for _ in range(int(options["count"])):
            with connect(options) as sock:
                sock.sendall(HEADER.pack(up, down, 0))
                exchange(sock, up, down + 1, 0)
                sent += HEADER.size + up
                received += down + 1
                if "reset" in options:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        say("DONE", sent, received)


def tcp_kept(name, options):
    """rounds= times: count= connections at once, which are silent for silent= seconds before each of talks=
    exchanges of up= and down= bytes, then end."""
    up, down = int(options.get("up", 0)), int(options.get("down", 0))
    say("READY")
    sent = received = 0
    while commands.read() != "quit":
        for _ in range(int(options.get("rounds", 1))):
            socks = connect_all(options, int(options["count"]))
            for _ in range(int(options.get("talks", 1))):
                time.sleep(float(options.get("silent", 0)))
                for sock in socks:
                    sock.sendall(HEADER.pack(up, down, 0))
                    exchange(sock, up, down + 1, 0)
                    sent += HEADER.size + up
                    received += down + 1
            for sock in socks:
                sock.close()
        say("DONE", sent, received)


def child_exchange(options, up, down):
    """What a child does that was forked and executes nothing: one connection, and the end."""
    with connect(options) as sock:
        sock.sendall(HEADER.pack(up, down, 0))
        exchange(sock, up, down + 1, 0)
    os._exit(0)


def tcp_forks(name, options):
    """count= children, rate= a second, which execute nothing: each connects once, exchanges up= and down=
    bytes, and ends. This process has no socket. orphans: they are forked before READY, by a process
    that has ended by then."""
    up, down, count = int(options["up"]), int(options["down"]), int(options["count"])
    pause = 1 / float(options["rate"])
    if "orphans" in options:
        wake, waker = os.pipe()
        dead, alive = os.pipe()
        parent = os.fork()
        if parent == 0:
            for _ in range(count):
                if os.fork() == 0:
                    signal.alarm(LIFE)
                    os.close(dead)
                    if os.read(wake, 1):
                        child_exchange(options, up, down)
                    os._exit(0)
            os._exit(0)
        os.waitpid(parent, 0)
        os.close(wake)
        os.close(alive)
    say("READY")
    while commands.read() != "quit":
        for _ in range(count):
            time.sleep(pause)
            if "orphans" in options:
                os.write(waker, b".")
            elif os.fork() == 0:
                child_exchange(options, up, down)
        if "orphans" in options:
            # Every child has the other end until it ends.
            assert os.read(dead, 1) == b""
        else:
            for _ in range(count):
                assert os.wait()[1] == 0
        say("DONE", count * (HEADER.size + up), count * (down + 1))


def datagram_socket(host, options):
    """UDP; lite: UDP-Lite; raw=N: a raw socket of protocol N, which has no ports."""
    kind, protocol = socket.SOCK_DGRAM, socket.IPPROTO_UDP
    if "lite" in options:
        protocol = socket.IPPROTO_UDPLITE
    elif "raw" in options:
        kind, protocol = socket.SOCK_RAW, int(options["raw"])
    sock = socket.socket(family(host), kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    return sock


def payload(data, host, options):
    """How much of a datagram that is: a raw socket of IPv4 receives the header as well."""
    return len(data) - (20 if "raw" in options and family(host) == socket.AF_INET else 0)


def udp_server(name, options):
    """Answers each datagram with reply= bytes, and on `go` says how much that was. held: none before `go`.
    sockets=N of them on each of ports=N ports from port= on; connect: to the sender of the first
    datagram."""
    host = options.get("host", "0.0.0.0")
    first, ports = int(options["port"]), int(options.get("ports", 1))
    socks = []
    for port in [*range(first, first + ports)] * int(options.get("sockets", 1)):
        sock = datagram_socket(host, options)
        if "reuseport" in options:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family(host) == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, "dual" not in options)
        sock.bind((host, port))
        socks.append(sock)
    reply = BLOCK[: int(options.get("reply", 0))]
    holds, held = "held" in options, []
    connect = "connect" in options
    sent = received = 0
    say("READY")
    while True:
        readable, _, _ = select.select([commands, *socks], [], [])
        for ready in readable:
            if ready is commands:
                if commands.read() == "quit":
                    return
                for sock, address in held:
                    sent += sock.sendto(reply, address)
                holds, held = False, []
                say("DONE", sent, received)
                continue
            data, address = ready.recvfrom(len(BLOCK))
            received += payload(data, host, options)
            if connect:
                ready.connect(address)
                connect = False
            if reply and holds:
                held.append((ready, address))
            elif reply:
                sent += ready.sendto(reply, address)


def udp_client(name, options):
    """count= datagrams of size= bytes from each of sockets= sockets, spread over seconds=, a reply
    of reply= bytes to each. connected: by connect(), else by sendto() on a bound socket, to ports=N
    ports and host=A,B,... in turn. leaves: all sockets are closed as soon as the last datagram is sent."""
    hosts, count = options["host"].split(","), int(options["count"])
    host = hosts[0]
    address, ports = (host, int(options["port"])), int(options.get("ports", 1))
    size, reply = int(options["size"]), int(options.get("reply", 0))
    seconds = float(options.get("seconds", 0))
    socks = [datagram_socket(host, options) for _ in range(int(options.get("sockets", 1)))]
    for sock in socks:
        if "connected" in options:
            sock.connect(address)
        else:
            sock.bind(("::" if family(host) == socket.AF_INET6 else "0.0.0.0", 0))
    say("READY")
    sent = received = 0
    while (command := commands.read()) != "quit":
        if command == "go":
            start = time.monotonic()
            goal_sent, goal_received = sent + size * count, received + reply * count
            for index in range(count):
                # Never more than one datagram under way, so no buffer overflows and none is lost.
                time.sleep(max(0, start + seconds * index / count - time.monotonic()))
                sock = socks[index % len(socks)]
                if "connected" in options:
                    sent += sock.send(BLOCK[:size])
                else:
                    to = hosts[index % len(hosts)], address[1] + index % ports
                    sent += sock.sendto(BLOCK[:size], to)
                if reply:
                    sock.settimeout(60)
                    received += payload(sock.recv(len(BLOCK)), host, options)
            if "leaves" in options:
                for sock in socks:
                    sock.close()
            assert (sent, received) == (goal_sent, goal_received)
            say("DONE", sent, received)
        elif command == "close":
            for sock in socks:
                sock.close()
            say("CLOSED")


def everywhere(name, options):
    """A server's and a client's socket in each of the network namespaces in=A,B,..., and idle= more there. `go`
    sends size= bytes from one to the other in each of them, over loopback, UDP or with tcp: TCP."""
    libc = ctypes.CDLL(None, use_errno=True)
    size, idle, kind = int(options["size"]), int(options.get("idle", 0)), socket.SOCK_DGRAM
    if "tcp" in options:
        kind = socket.SOCK_STREAM
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    pairs, others = [], []
    for namespace in options["in"].split(","):
        file = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        if libc.setns(file, 0x40000000) != 0:  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), "setns")
        os.close(file)
        server, client = (socket.socket(socket.AF_INET, kind) for _ in range(2))
        server.bind(("127.0.0.1", 9000))
        if "tcp" in options:
            server.listen()
        client.connect(("127.0.0.1", 9000))
        pairs.append((server.accept()[0] if "tcp" in options else server, client))
        for _ in range(idle):
            others.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            others[-1].bind(("127.0.0.1", 0))
    say("READY")
    moved = 0
    while commands.read() != "quit":
        for server, client in pairs:
            client.sendall(BLOCK[:size])
            got = 0
            while got < size:
                got += len(server.recv(size))
            moved += size
        say("DONE", moved, moved)


def checksum(data):
    words = sum(struct.unpack(f"!{len(data) // 2}H", data))
    words = (words & 0xFFFF) + (words >> 16)
    return ~(words + (words >> 16)) & 0xFFFF


def packets(name, options):
    """count= Ethernet frames, spread over seconds=, from= and to= an IPv4 address on device=, whose neighbour is
    mac=: UDP to port= with size= bytes of data, each by one send on a packet socket. ends: the process
    ends with them."""
    # Of no protocol: it receives nothing.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind((options["device"], 0))
    ours = sock.getsockname()[4]
    ethernet = bytes.fromhex(options["mac"].replace(":", "")) + ours + b"\x08\x00"
    size, count = int(options["size"]), int(options["count"])
    seconds = float(options.get("seconds", 0))
    # No sum of UDP: it may be left out.
    udp = struct.pack("!HHHH", 40000, int(options["port"]), 8 + size, 0)
    ends = [socket.inet_aton(options[end]) for end in ("from", "to")]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + size, 0, 0x4000, 64, 17, 0, *ends)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    frame = ethernet + ip + udp + BLOCK[:size]
    say("READY")
    sent = 0
    while commands.read() != "quit":
        start = time.monotonic()
        for index in range(count):
            time.sleep(max(0, start + seconds * index / count - time.monotonic()))
            sent += sock.send(frame)
        say("DONE", sent, 0)
        if "ends" in options:
            os._exit(0)


def ping(name, options):
    """count= ICMP echo requests with size= bytes of data, each answered by the other kernel, through a raw
    socket, or dgram: through a ping socket."""
    host, size, count = options["host"], int(options["size"]), int(options["count"])
    six, raw = family(host) == socket.AF_INET6, "dgram" not in options
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    sock = socket.socket(family(host), socket.SOCK_RAW if raw else socket.SOCK_DGRAM, protocol)
    if six and raw:
        # Nothing but replies (129): else it would get what neighbours say to each other.
        ignored = ((1 << 256) - 1) ^ (1 << 129)
        sock.setsockopt(protocol, 1, ignored.to_bytes(32, "little"))
    sock.connect((host, 0))
    sock.settimeout(60)
    say("READY")
    sent = received = 0
    while commands.read() != "quit":
        for index in range(count):
            kind, number = 128 if six else 8, os.getpid() & 0xFFFF
            packet = struct.pack("!BBHHH", kind, 0, 0, number, index & 0xFFFF) + bytes(size)
            # The kernel itself puts the sum in everywhere else.
            if raw and not six:
                packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
            sent += sock.send(packet)
            received += len(sock.recv(len(BLOCK)))
        say("DONE", sent, received)


ROLES = {
    "tcp-server": tcp_server,
    "tcp-client": tcp_client,
    "tcp-churn": tcp_churn,
    "tcp-kept": tcp_kept,
    "tcp-forks": tcp_forks,
    "udp-server": udp_server,
    "udp-client": udp_client,
    "everywhere": everywhere,
    "packets": packets,
    "ping": ping,
}

if __name__ == "__main__":
    signal.alarm(LIFE)
    call(os.fsencode(sys.argv[1]))
    commands = Commands()
    ROLES[sys.argv[2]](
        sys.argv[1], dict(word.partition("=")[::2] for word in sys.argv[3:])
    )
