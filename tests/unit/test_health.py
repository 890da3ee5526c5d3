"""Health checks: what counts as well, what servers may send, and what follows of failures."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.proxy.health import HEAD, ask, status_of
from engine.settings.values import HealthSettings, RotateSettings
from tests.unit.supervisor.world import World, session

URL = "http://checked.example/up?x=1"


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 204\r\n", 204),
        (b"HTTP/1.1 503 So sorry\nRetry-After: 5", 503),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 301 Moved\r\n", 301),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 404 No\r\n", 404),
        (b"", None),
        (b"HTTP/1.1 20", None),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n", None),
    ],
)
def test_status(octets: bytes, status: int | None) -> None:
    assert status_of(octets) == status


@pytest.mark.parametrize(
    "octets",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 -20 OK\r\n",
        b"\n",
        b"\0" * 10,
        b"HTTP/1.1 200 " + b"x" * HEAD,
        b"HTTP/1.1 103 Early\r\n" + b"x: y\r\n" * HEAD,
    ],
)
def test_what_is_no_answer(octets: bytes) -> None:
    with pytest.raises(ValueError, match="answer"):
        status_of(octets)


async def asked(answer: bytes, url: str = URL, seconds: float = 30.0, tls: ssl.SSLContext | None = None) -> str:
    """What comes of a server that says this, once it was asked."""
    heard: list[bytes] = []
    held: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)  # Python 3.13 closes those that nobody has any more
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if answer:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    made = socket.create_connection(server.sockets[0].getsockname())
    made.setblocking(False)
    context = ssl.create_default_context()
    problem = await ask(made, url, context, asyncio.get_running_loop().time() + seconds)
    assert made.fileno() == -1
    for each in held:
        each.close()
    server.close()
    if answer and tls is None:
        assert heard[0].startswith(b"GET /up?x=1 HTTP/1.1\r\nHost: checked.example\r\n")
    return problem


async def test_only_a_page_that_comes_counts() -> None:
    assert await asked(b"HTTP/1.1 200 OK\r\n\r\n" + b"page" * 1_000_000) == ""
    assert await asked(b"HTTP/1.1 302 Found\r\nLocation: x\r\n\r\n") == ""
    assert await asked(b"HTTP/1.1 403 Forbidden\r\n\r\n") == "HTTP status 403"
    assert await asked(b"220 mail\r\n") == "no HTTP answer"
    assert "without an answer" in await asked(b"HTTP/1.1 2")
    assert await asked(b"", seconds=0.2) == "no answer in time"


async def test_a_certificate_must_be_believed(tmp_path: Path) -> None:
    files = ("-keyout", tmp_path / "key", "-out", tmp_path / "cert")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*command, *files, "-subj", "/CN=checked.example"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    problem = await asked(b"HTTP/1.1 200 OK\r\n\r\n", "https://checked.example/", tls=context)
    assert problem.startswith("its certificate is not to be believed: self")


# What follows, in virtual time


def checked(**settings: object) -> World:
    health = HealthSettings("http://192.0.2.1/", 30.0, 3)
    world = World([session("one", health=health, **settings)]).open()
    world.until(lambda: world.supervisor.health.orders)
    return world


def fails(world: World, times: int = 1, problem: str = "HTTP status 500") -> None:
    for _ in range(times):
        world.until(lambda: world.supervisor.health.targets)
        serial = world.supervisor.health.targets[0].serial
        world.supervisor.note_health(0, serial, problem, world.now)
        world.run(30.0)


def test_a_session_is_checked_while_it_is_up_and_rotated_when_that_fails() -> None:
    world = checked()
    target = world.supervisor.health.orders.pop(0)
    view = world.view()
    assert target is not None
    assert (target.device, target.ipv4, target.dns) == (view.device, view.ipv4, view.dns)
    fails(world, 2)
    fails(world, 1, "")
    fails(world, 2)
    assert not world.events("health")
    fails(world)
    world.until(lambda: world.events("rotated"))
    assert [event.text for event in world.events("health")] == [
        "The health check failed 3 times in a row: http://192.0.2.1/: HTTP status 500."
    ]
    another = world.supervisor.health.orders.pop(0)
    assert another is not None
    assert another.ipv4 == world.view().ipv4 != view.ipv4
    world.supervisor.note_health(0, target.serial, "late", world.now)
    fails(world, 1, "")
    assert world.events("health")[-1].text == "The health check succeeds again."


def test_a_page_that_is_down_does_not_cost_an_address_each_minute() -> None:
    world = checked()
    for bound in (3, 6, 12, 24):
        rotated = len(world.events("rotated"))
        fails(world, bound - 1)
        assert len(world.events("rotated")) == rotated
        fails(world)
        world.until(lambda n=rotated: len(world.events("rotated")) == n + 1)  # type: ignore[misc]
    fails(world, 1, "")
    fails(world, 3)
    assert len(world.events("rotated")) == 5


def test_checks_wait_for_the_least_time_and_may_be_well_again_by_then() -> None:
    world = checked(rotate=RotateSettings(min_interval=3600.0))
    before = world.view().ipv4
    fails(world, 3)
    fails(world, 1, "")
    world.run(4000.0)
    assert world.view().ipv4 == before
    fails(world, 6)
    world.until(lambda: world.events("rotated"))


def test_a_session_whose_device_is_elsewhere_is_not_checked_and_says_so_once() -> None:
    world = checked()
    world.supervisor.health.orders.clear()
    view, settings = world.view(), HealthSettings("http://192.0.2.1/")
    for mtu in (1400, 1500):
        world.supervisor.health.look(0, replace(view, netns="blue", mtu=mtu), settings)
    assert world.supervisor.health.orders == {0: None}
    (told,) = world.events("health")
    assert "in the network namespace blue" in told.text
