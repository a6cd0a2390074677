"""Attacks over the network: there is none, and no socket of another process can be reached."""

import socket
import threading

import pytest

from tests.hostile.arena import Arena


@pytest.fixture
def listeners(arena, tmp_path):
    """Sockets that a submission would like to reach, and a record of who reached them."""
    reached = []
    listening = []

    def listen(name, one):
        listening.append(one)
        one.settimeout(20)

        def wait():
            try:
                if one.type == socket.SOCK_STREAM:
                    one.listen()
                    one.accept()
                else:
                    one.recv(1)
                reached.append(name)
            except OSError:
                pass

        threading.Thread(target=wait, daemon=True).start()

    tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    tcp.bind(("127.0.0.1", 0))
    udp.bind(("127.0.0.1", 0))
    paths = {"path": str(arena.outside / "s"), "abstract": f"\0{arena.marker}"}
    listen("tcp", tcp)
    listen("udp", udp)
    for name, path in paths.items():
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            one = socket.socket(socket.AF_UNIX, kind)
            one.bind(path + str(kind.value))
            listen(f"{name} {kind.name}", one)
    yield {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1], **paths}, reached
    for one in listening:
        one.close()
    for path in arena.outside.glob("s[0-9]"):
        path.unlink()


def test_no_socket_can_be_reached(arena: Arena, listeners):
    addresses, reached = listeners
    code = f"""
a = {addresses!r}
def unix(kind, path): return lambda: socket.socket(socket.AF_UNIX, kind).connect(path + str(kind.value))
def pair(path):
    def send():
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.sendto(b'x', path + str(socket.SOCK_DGRAM.value))
    return send
attempts = [lambda: socket.create_connection(('127.0.0.1', a['tcp']), 1),
            lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', a['udp'])),
            lambda: socket.socket(socket.AF_INET6), lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW), lambda: socket.socket(40)]
for path in (a['path'], a['abstract']):
    attempts += [unix(socket.SOCK_STREAM, path), unix(socket.SOCK_DGRAM, path), pair(path)]
leaks = []
for number, attempt in enumerate(attempts):
    try:
        attempt()
        leaks.append(number)
    except (OSError, LookupError):  # a lookup of the codec of host names fails where no module can be loaded
        pass
raise LookupError(str(leaks))
"""
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert outcome.reason == "No cell defines bilinear; cell 2 raised LookupError: []"
    assert reached == []
    arena.honest()


def test_names_cannot_be_resolved(arena):
    arena.attack_exercise("socket.getaddrinfo('pypi.org', 443)", "error", "^$")
