"""What goes wrong at the proxies of a served engine: clients without a right to them, or with bad intentions, sessions
that end, a process that is killed, ports that others have; and a configuration that is read again.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine.host import netns
from tests.conftest import ROOT
from tests.program import COMMAND, Program, alive, descendants, running, until

WEB = "http://100.64.0.1/"
POOL = 1080
SESSIONS = "sessions: [{name: home-01}, {name: home-02}, {name: home-03}]\n"
LIMITED = "limits: {user: 40}"


def config(folder: Path, *more: str) -> Path:
    """A configuration with a user; written anew."""
    (folder / "password").write_text("sesame\n")
    path = folder / "config.yaml"
    lines = [
        "sessions: {first_port: 20001}",
        f"pool: {{listen: '0.0.0.0:{POOL}'}}",
        "users: [{name: app, password_file: password}]",
        *more,
    ]
    path.write_text(
        "proxy: {" + ", ".join(lines) + "}\ndefaults: {user: anyone, password: lab, autodial: true}\n" + SESSIONS
    )
    path.chmod(0o600)
    return path


class Scene:
    """A served engine in the lab."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.within = ("nsenter", "-t", str(program.pid), "-n")

    def curl(self, proxy: str, url: str = WEB, *more: str) -> str:
        """What was got, or curl's exit code and what it complains of."""
        command = [*self.within, "curl", "-sS", "-m", "20", "-x", proxy, *more, url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return (done.stdout if done.returncode == 0 else f"{done.returncode} {done.stderr}").strip()

    def ctl(self, *words: str) -> str:
        command = [*COMMAND, "ctl", "--socket", str(self.folder / "sock"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    def connected(self, port: int) -> socket.socket:
        """To one of the proxies."""
        with netns.inside(self.program.pid):
            return socket.create_connection(("127.0.0.1", port), 20)

    def through(self, port: int, target: bytes = b"\x01\x64\x40\x00\x01\x00\x50", command: int = 1) -> socket.socket:
        """One that asked for something by SOCKS 5, with its answer to be read."""
        made = self.connected(port)
        made.sendall(b"\x05\x01\x02\x01\x03app\x06sesame\x05" + bytes((command, 0)) + target)
        assert read(made, 4) == b"\x05\x02\x01\x00"
        return made

    def process(self, module: bytes) -> int:
        """One that the program has started."""
        found = [each for each in descendants(self.program.pid) if module in command(each)]
        return found[0] if found else 0

    @property
    def proxies(self) -> int:
        return self.process(b"engine.proxy")

    def told(self, text: str, since: int = 0) -> bool:
        """Whether the engine said so."""
        return any(text in line for line in self.ctl("events").splitlines()[since:])


def command(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def read(from_: socket.socket, length: int) -> bytes:
    octets = b""
    while len(octets) < length and (more := from_.recv(length - len(octets))):
        octets += more
    return octets


def is_cut(connection: socket.socket) -> bool:
    """It ends, be it by a reset."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture(scope="module")
def scene(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("proxy")
    arguments = ("serve", "--lab", "--config", config(folder, "allow_private: true"), "--socket", folder / "sock")
    program = subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        it = Scene(program, folder)  # type: ignore[arg-type]
        until(lambda: it.curl("socks5h://app-session-home-03:sesame@127.0.0.1:1080").startswith("Your"), "the pool")
        yield it
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 0
    finally:
        program.kill()
        program.wait()


def test_who_has_no_password_gets_nothing(scene: Scene) -> None:
    for proxy in ("socks5h://app:wrong@127.0.0.1:1080", "socks5h://127.0.0.1:1080", "socks4://127.0.0.1:20001"):
        assert scene.curl(proxy).startswith("97 "), proxy
    for proxy in ("http://127.0.0.1:1080", "http://app:wrong@127.0.0.1:20001", "http://nobody:sesame@127.0.0.1:1080"):
        assert scene.curl(proxy, WEB, "-o", "/dev/null", "-w", "%{http_code}") == "407", proxy
    until(lambda: scene.told("with a wrong user name or password, from 127.0.0.1"), "an event")
    assert not scene.told("sesame")


def test_udp_associate(scene: Scene) -> None:
    with netns.inside(scene.process(b"engine.lab")):
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind(("100.64.0.1", 7007))
    with echo, scene.through(20001, b"\x01" + bytes(6), command=3) as control:
        answer = read(control, 10)
        assert answer[:4] == b"\x05\x00\x00\x01"
        with netns.inside(scene.program.pid):
            ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with ours:
            ours.settimeout(20)
            ours.connect(("127.0.0.1", int.from_bytes(answer[8:])))
            head = b"\x00\x00\x00\x01\x64\x40\x00\x01" + (7007).to_bytes(2)
            ours.send(b"\x00\x00\x01" + head[3:] + b"a fragment")
            ours.send(b"\x00\x00")
            ours.send(b"\x00\x00\x00\x01\x7f\x00\x00\x01\x00\x35forbidden")
            ours.send(head + b"hello")
            echo.settimeout(20)
            said, sender = echo.recvfrom(100)
            assert said == b"hello"
            assert sender[0] == session(scene, "home-01")["ipv4"]
            echo.sendto(b"olleh", sender)
            assert ours.recv(100) == head + b"olleh"
            control.close()
            until(lambda: refused(ours), "the end of the association")


def test_datagrams_for_names_that_nobody_knows_take_little_room(scene: Scene) -> None:
    """20 names of which the server says nothing, 64 of the longest datagrams for each; all of them are read."""
    with netns.inside(scene.process(b"engine.lab")):
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind(("100.64.0.1", 7008))
    echo.settimeout(1)
    before = memory(scene.proxies)
    with echo, scene.through(20001, b"\x01" + bytes(6), command=3) as control:
        port = int.from_bytes(read(control, 10)[8:])
        with netns.inside(scene.program.pid):
            ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with ours:
            ours.connect(("127.0.0.1", port))
            for number in range(20 * 64):
                name = f"name-{number // 64:02}.example".encode()
                ours.send(b"\0\0\0\x03" + bytes((len(name),)) + name + b"\0\x35" + bytes(60_000))
                until(partial(comes_through, ours, echo, b"\0\0\0\x01\x64\x40\0\x01" + (7008).to_bytes(2)), "it")
            assert memory(scene.proxies) - before < 16 << 20


def comes_through(ours: socket.socket, echo: socket.socket, head: bytes) -> bool:
    """Whether a datagram does, and so what was sent before it has been read."""
    ours.send(head + b"read")
    with suppress(TimeoutError):
        return echo.recv(100) == b"read"
    return False


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """No news."""


def test_large_plain_requests_come_through_whole(scene: Scene) -> None:
    """Two on one connection to the proxy, more than it keeps of each."""
    body = scene.folder / "body"
    body.write_bytes(os.urandom(4 << 20))
    with netns.inside(scene.process(b"engine.lab")):
        server = ThreadingHTTPServer(("100.64.0.1", 8080), Echo)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [*scene.within, "curl", "-sS", "-m", "60", "-x", "http://app:sesame@127.0.0.1:20001", "-w"]
        command += ["%{num_connects} ", "--data-binary", f"@{body}"]
        for number in range(2):
            command += [f"http://100.64.0.1:8080/{number}", "-o", str(scene.folder / f"got{number}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "1 0 ", "the second takes the same connection"
        for number in range(2):
            assert (scene.folder / f"got{number}").read_bytes() == body.read_bytes()
        server.shutdown()


def refused(ours: socket.socket) -> bool:
    try:
        ours.send(b"x")
    except ConnectionRefusedError:
        return True
    return False


def session(scene: Scene, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(scene.ctl("list", "--json"))
    return next(each for each in found if each["name"] == name)


def test_a_session_that_ends_cuts_what_goes_through_it_and_refuses_more(scene: Scene) -> None:
    connection = scene.through(20002)
    assert read(connection, 10)[1] == 0
    held = scene.connected(20002)  # it has said nothing yet
    until(lambda: int(session(scene, "home-02")["connections"]) == 1, "a connection in the view")
    scene.ctl("hangup", "home-02")
    assert is_cut(connection)
    held.sendall(b"\x05\x01\x02\x01\x03app\x06sesame\x05\x01\x00\x01\x64\x40\x00\x01\x00\x50")
    assert read(held, 14)[4:6] == b"\x05\x03", "network unreachable"
    assert scene.curl("http://app:sesame@127.0.0.1:20002", WEB, "-o", "/dev/null", "-w", "%{http_code}") == "503"
    assert scene.curl("socks5h://app-session-home-02:sesame@127.0.0.1:1080").startswith("97 ")
    seen = {scene.curl("socks5h://app:sesame@127.0.0.1:1080") for _ in range(4)}
    assert len(seen) == 2, "the pool takes the other two"
    scene.ctl("dial", "home-02")
    until(lambda: scene.curl("socks5h://app:sesame@127.0.0.1:20002").startswith("Your"), "the session again")


def test_clients_whose_servers_do_not_answer_are_refused_when_their_session_ends(scene: Scene) -> None:
    """Whoever waits for the server: it is told what those are told who ask later, in the protocol that it speaks."""
    provider = ("nsenter", "-t", str(scene.process(b"engine.lab")), "-n")
    subprocess.run([*provider, "ip", "route", "add", "blackhole", "203.0.113.99"], check=True)
    by_socks = scene.through(20002, b"\x01\xcb\x00\x71\x63\x00\x50")
    by_http = scene.connected(20002)
    by_http.sendall(
        b"CONNECT 203.0.113.99:80 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic YXBwOnNlc2FtZQ==\r\n\r\n"
    )
    until(lambda: int(session(scene, "home-02")["connections"]) == 2, "both in the view")
    with suppress(TimeoutError):
        by_socks.settimeout(0.5)
        assert not by_socks.recv(1), "it hears nothing before"
    by_socks.settimeout(20)
    scene.ctl("hangup", "home-02")
    assert read(by_socks, 10)[:2] == b"\x05\x03", "network unreachable"
    assert read(by_http, 12) == b"HTTP/1.1 503"
    for each in (by_socks, by_http):
        each.close()
    until(lambda: int(session(scene, "home-02")["connections"]) == 0, "nobody there")
    scene.ctl("dial", "home-02")
    until(lambda: scene.curl("socks5h://app:sesame@127.0.0.1:20002").startswith("Your"), "the session again")


def test_dns_servers_that_do_not_answer_are_not_taken_for_a_name_that_is_not_there(scene: Scene) -> None:
    provider = ("nsenter", "-t", str(scene.process(b"engine.lab")), "-n")
    servers = session(scene, "home-01")["dns"]
    for server in servers:
        subprocess.run([*provider, "ip", "address", "add", server, "dev", "lo"], check=True)  # it refuses at once
    said = scene.curl("http://app:sesame@127.0.0.1:20001", "http://shop.example/")
    assert said == "souppp: the session's DNS servers have no answer"
    assert "(4)" in scene.curl("socks5h://app:sesame@127.0.0.1:20001", "http://shop.example/"), "host unreachable"


def test_a_new_address_first(scene: Scene) -> None:
    before = session(scene, "home-01")["ipv4"]
    after = scene.curl("socks5h://app-new:sesame@127.0.0.1:20001")
    assert after.startswith("Your address is ")
    assert before not in after


def test_a_device_that_is_made_anew_is_found_again(scene: Scene) -> None:
    """By its index, which is another one then."""
    connection = scene.through(20003)
    assert read(connection, 10)[1] == 0
    subprocess.run([*scene.within, "ip", "link", "del", session(scene, "home-03")["device"]], check=True)
    until(lambda: scene.curl("socks5h://app:sesame@127.0.0.1:20003").startswith("Your"), "the session again")
    assert is_cut(connection)


def test_a_process_that_is_killed_is_started_again(scene: Scene) -> None:
    before = scene.proxies
    connection = scene.through(20001)
    assert read(connection, 10)[1] == 0
    os.kill(before, signal.SIGKILL)
    assert is_cut(connection)
    until(lambda: scene.curl("socks5h://app:sesame@127.0.0.1:20001").startswith("Your"), "the proxies again")
    assert scene.proxies not in (0, before)
    assert scene.told("The process of the proxies was killed by signal 9")


def test_clients_that_say_nothing_keep_nobody_out(scene: Scene) -> None:
    """Thousands of them, half of which begin and never end; all are let go, and their memory with them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    silent = []
    before = memory(scene.proxies)
    with netns.inside(scene.program.pid):
        for number in range(4500):
            made = socket.create_connection(("127.0.0.1", POOL))
            made.send(b"\x05\xff\x00" if number % 2 else b"GET http://a/ HTTP/1.1\r\nX: ")
            silent.append(made)
    assert scene.curl("socks5h://app:sesame@127.0.0.1:1080").startswith("Your")
    assert memory(scene.proxies) - before < 32 << 20
    assert scene.proxies == scene.proxies != 0
    until(lambda: len(os.listdir(f"/proc/{scene.proxies}/fd")) < 100, "all of them gone")
    for made in silent:
        made.close()


def memory(pid: int) -> int:
    """Octets of its own."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10


@contextmanager
def taken(scene: Scene, port: int) -> Iterator[None]:
    with netns.inside(scene.program.pid):
        other = socket.create_server(("127.0.0.1", port))
    with other:
        yield


def test_what_is_read_again_counts_at_once(scene: Scene) -> None:
    """Other ports, one of which somebody has; a limit; no private networks any more."""
    port = 20102
    path = config(scene.folder, "allow_private: false", LIMITED)
    path.write_text(path.read_text().replace("20001", "20101"))
    with taken(scene, port):
        assert "other proxies" in scene.ctl("reload")
        until(lambda: scene.told(f"can't listen on 127.0.0.1:{port}: another program has that port"), "a complaint")
        assert scene.curl("socks5h://app:sesame@127.0.0.1:20001").startswith("7 "), "nobody listens where they did"
        for proxy in ("20101", "1080"):
            assert "(2)" in scene.curl(f"socks5h://app:sesame@127.0.0.1:{proxy}"), "not allowed by the rules"
    until(lambda: scene.told(f"listens on 127.0.0.1:{port} now"), "it to be tried again")
    assert "nothing is different" in scene.ctl("reload")


def test_a_flood_of_attempts_is_survived_by_who_is_there(scene: Scene) -> None:
    """From several threads, as fast as they go: each is answered, none is kept."""
    path = config(scene.folder, "allow_private: true", LIMITED)
    assert path.exists()
    scene.ctl("reload")
    until(lambda: scene.curl("socks5h://app:sesame@127.0.0.1:20001").startswith("Your"), "the proxies again")
    staying = scene.through(20001)
    assert read(staying, 10)[1] == 0
    before, answers = memory(scene.proxies), []

    def attack() -> None:
        for _ in range(300):
            with suppress(OSError), scene.through(20001, b"\x01\x7f\x00\x00\x01\x00\x50") as made:
                answers.append(read(made, 10)[1])

    threads = [threading.Thread(target=attack) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert set(answers) == {2}
    assert len(answers) > 1000
    assert memory(scene.proxies) - before < 16 << 20
    staying.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert read(staying, 12).startswith(b"HTTP/")
    held = [scene.through(20002) for _ in range(41)]
    codes = [read(each, 10)[1] for each in held]
    assert codes.count(0) < 41, "there is a limit of 40 to a user"
    assert set(codes) == {0, 1}
    for each in held:
        each.close()


def test_it_dies_with_the_engine(needs_root: None, tmp_path: Path) -> None:
    with running("--lab", "--config", config(tmp_path), "--headless", "--until-up", "--hold") as program:
        program.up(3)
        pid = until(lambda: Scene(program, tmp_path).proxies, "the process")
        program.process.kill()
        until(lambda: not alive(pid), "its end")
