"""Whatever is wrong: one clear line, the documented exit code, no traceback, and nothing left behind."""

from __future__ import annotations

import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.settings import console
from souppp_tui.show import themes
from tests.conftest import ROOT, run
from tests.program import COMMAND, Program, noted, refused, running
from tests.provider import CARD, FAR_CARD, Provider, provider

LEAST = "sessions: [{name: one, user: alice, password: lab, autodial: true}]\n"
USAGE, ENVIRONMENT = 2, 3


@pytest.fixture
def cable(own_net: None) -> Iterator[None]:
    """A card with nobody at the other end of its cable."""
    run("ip", "link", "add", CARD, "numrxqueues", "2", "numtxqueues", "2", "type", "veth", "peer", "name", FAR_CARD)
    run("ip", "link", "set", CARD, "up")
    run("ip", "link", "set", FAR_CARD, "up")
    return


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(LEAST)
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def on_card(config: Path, state: Path, *more: str | Path, card: str = CARD) -> tuple[str | Path, ...]:
    return (card, "--config", config, "--state-dir", state, "--headless", "--until-up", *more)


def attached_program() -> str:
    return run("ip", "-d", "link", "show", CARD).partition("prog/xdp")[2]


def nothing_left(state: Path) -> bool:
    """No device of ours, no program on the card, no journal."""
    return (
        {name for _, name in socket.if_nameindex()} == {"lo", CARD, FAR_CARD}
        and not attached_program()
        and not noted(state)
    )


# --- the command line ---


def test_help_names_every_option_and_the_exit_codes() -> None:
    help_ = run(*COMMAND, "--help")
    for word in ("--config", "--lab", "--headless", "--until-up", "--timeout", "--hold", "--capture", "--read-only"):
        assert word in help_
    assert "exit codes: 0 all is well; 1 " in help_


def test_version() -> None:
    assert run(*COMMAND, "--version").startswith("souppp-tui ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "name a card"),
        (("eth0", "--lab"), "--lab brings its own card"),
        (("--lab", "--sessions", "0"), "must be 1 to 16384"),
        (("--lab", "--sessions", "x"), "--sessions: must be 1 to 16384"),
        (("--lab", "--sessions", "3", "--config", "x.yaml"), "--sessions"),
        (("eth0", "--sessions", "3"), "--sessions is for --lab"),
        (("--lab", "--until-up"), "--until-up goes with --headless"),
        (("--lab", "--headless", "--hold"), "--hold goes with --until-up"),
        (("--lab", "--headless", "--until-up", "--timeout", "0"), "above 0"),
        (("--lab", "--headless", "--until-up", "--timeout", "x"), "--timeout: must be a number of seconds above 0"),
        (("--lab", "--nonsense"), "unrecognized arguments"),
        (("--lab", "--theme", "nonsense"), "invalid choice"),
        (("--lab", "--xdp", "native"), "invalid choice: 'native' (choose from "),
        (("--lab", "--egress", "tun"), "invalid choice: 'tun' (choose from "),
        (("atach", "nope0"), "no card atach; did you mean `souppp-tui attach`?"),
        (("srve", "--lab"), "no card srve; did you mean `souppp-tui serve`?"),
        (("list", "state:failed"), "no card list; did you mean `souppp-tui ctl list`?"),
    ],
)
def test_a_wrong_command_line(arguments: tuple[str, ...], complaint: str) -> None:
    code, complaints = refused(*arguments)
    assert code == USAGE
    assert complaint in complaints[-1]
    assert "<" not in complaints[-1], "nothing of Python's"


@pytest.mark.parametrize(("arguments", "instead"), [(["attach"], "`souppp-tui ctl`"), (["--lab"], "--headless")])
def test_without_a_terminal_it_names_what_does_without(arguments: list[str], instead: str) -> None:
    code, complaints = refused(*arguments)
    assert code == ENVIRONMENT
    assert complaints == [
        f"souppp-tui: the console needs a terminal on standard input and output; without one use {instead}."
    ]


def test_every_theme_can_be_chosen() -> None:
    assert set(console.THEMES) == {"auto", *themes.NAMES}


# --- the configuration ---


def test_every_mistake_in_the_configuration_at_once_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "sessions:\n"
        "  - {name: one, user: alice, passwort: wonderland}\n"
        "  - {name: two, mru: big}\n"
        "  - {name: two}\n"
        "dial: {rate: 0}\n"
        "colour: red\n"
    )
    code, complaints = refused("eth0", "--config", config, "--headless")
    assert code == USAGE
    places = [line.removeprefix(f"{config}:").split(": ")[0] for line in complaints]
    assert places == ["2:30", "3:22", "4:12", "5:14", "6:1"], complaints
    assert "passwort" in complaints[0]
    assert "wonderland" not in "".join(complaints)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("config.yaml", "sessions: [{name: one}, {name: one}]\n", ":1:32: name: "),
        ("config.yaml", "sessions: [\n", ":2:1: not YAML"),
        ("config.yaml", "", ":1:1: the file is empty"),
        ("config.yaml", None, ": no such file or directory"),
    ],
)
def test_a_wrong_configuration(tmp_path: Path, name: str, content: str | None, complaint: str) -> None:
    config = tmp_path / name
    if content is not None:
        config.write_text(content)
    code, complaints = refused("--lab", "--headless", "--config", config)
    assert code == USAGE
    assert len(complaints) == 1
    assert complaint in complaints[0]


# --- the host ---


def test_without_root_it_says_so(needs_root: None) -> None:
    nobody = pwd.getpwnam("nobody")
    within = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    if subprocess.run([*within, sys.executable, "-c", "import souppp_tui"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("this checkout is closed to other users")
    code, complaints = refused("--lab", "--headless", within=within)
    assert code == ENVIRONMENT
    assert len(complaints) == 1
    assert "needs to run as root, or with CAP_NET_ADMIN" in complaints[0]


@pytest.mark.parametrize("card", ["nope0", "lo"])
def test_no_such_card(own_net: None, config: Path, state: Path, card: str) -> None:
    code, complaints = refused(*on_card(config, state, card=card))
    assert (code, len(complaints)) == (ENVIRONMENT, 1)
    assert complaints[0].startswith("souppp-tui: ")
    assert card in complaints[0]
    assert not noted(state)


def test_a_card_that_is_down_names_the_remedy(cable: None, config: Path, state: Path) -> None:
    run("ip", "link", "set", CARD, "down")
    code, complaints = refused(*on_card(config, state))
    assert (code, complaints) == (ENVIRONMENT, [f"souppp-tui: va is down: bring it up with `ip link set {CARD} up`."])
    assert nothing_left(state)


def test_a_capture_is_not_in_the_way_of_the_next_try(cable: None, config: Path, state: Path, tmp_path: Path) -> None:
    capture = tmp_path / "capture.pcapng"
    run("ip", "link", "set", CARD, "down")
    for _ in range(2):
        code, complaints = refused(*on_card(config, state, "--capture", capture))
        assert (code, len(complaints)) == (ENVIRONMENT, 1)
        assert "is down" in complaints[0]
        assert not capture.exists()
    capture.write_bytes(b"somebody else's")
    code, complaints = refused(*on_card(config, state, "--capture", capture))
    assert "exists already" in complaints[0]
    assert capture.read_bytes() == b"somebody else's"


@pytest.mark.parametrize("there", ["nothing", "another bcc"])
def test_bcc_missing_or_the_wrong_one(cable: None, config: Path, state: Path, tmp_path: Path, there: str) -> None:
    """In a mount namespace of the program's own, where the folder of Debian's package holds something else."""
    instead = tmp_path / "bcc"
    instead.mkdir()
    if there == "another bcc":
        (instead / "__init__.py").write_text("def lattice(): ...\n")
    real = run("/usr/bin/python3", "-c", "import bcc; print(bcc.__path__[0])").strip()
    script = f'mount --bind {instead} {real} && exec "$@"'
    within = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    code, complaints = refused(*on_card(config, state), within=within)
    assert (code, len(complaints)) == (ENVIRONMENT, 1), complaints
    assert "apt-get install python3-bpfcc" in complaints[0]
    assert nothing_left(state)


def test_two_instances_on_one_card(own_net: None, config: Path, state: Path, tmp_path: Path) -> None:
    with provider(), running(*on_card(config, state, "--hold")) as first:
        first.up(1)
        code, complaints = refused(*on_card(config, state))
        assert (code, len(complaints)) == (ENVIRONMENT, 1), complaints
        assert "another souppp-tui works on this card" in complaints[0]
        code, complaints = refused(*on_card(config, tmp_path / "other-state"))
        assert (code, len(complaints)) == (ENVIRONMENT, 1), complaints
        assert f"held by process {first.pid} " in complaints[0]
        assert [each.name for each in (tmp_path / "other-state").iterdir()] == ["xdp.compiled"], "no journal, no lock"
        assert attached_program(), "the first one's program is still there"
        assert first.end() == 0
    assert not noted(state)


def test_a_state_folder_that_cannot_be_made(cable: None, config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, complaints = refused(*on_card(config, tmp_path / "file" / "state"))
    assert (code, len(complaints)) == (ENVIRONMENT, 1), complaints
    assert "file" in complaints[0]
    assert not attached_program()


def test_a_capture_file_that_cannot_be_made(cable: None, config: Path, state: Path, tmp_path: Path) -> None:
    code, complaints = refused(*on_card(config, state, "--capture", tmp_path / "nowhere" / "capture"))
    assert (code, len(complaints)) == (ENVIRONMENT, 1), complaints
    assert "nowhere" in complaints[0]
    assert nothing_left(state)


# --- the line ---


def failed(program: Program) -> dict[str, str]:
    """Name and error of every session, of a run that ends with exit code 1 and without complaints."""
    assert program.ended() == 1
    assert program.complaints == []
    return {said["name"]: said["error"] for said in program.said if "event" not in said}


def test_no_concentrator_on_the_line(cable: None, config: Path, state: Path) -> None:
    with running(*on_card(config, state, "--timeout", "1.5")) as program:
        assert failed(program) == {"one": "not up in time: still dialling"}
    assert nothing_left(state)


@pytest.fixture
def far(own_net: None) -> Iterator[type[Provider]]:
    """Makes providers."""
    made: list[Provider] = []

    class Made(Provider):
        def __init__(self, **order: object) -> None:
            super().__init__(**order)
            made.append(self)

    yield Made
    for each in made:
        each.kill()


def test_a_concentrator_that_refuses_a_session(far: type[Provider], state: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text('sessions: [{name: "s{n}", user: alice, password: lab, autodial: true, count: 3}]\n')
    far(max_sessions=2)
    with running(*on_card(config, state, "--timeout", "3")) as program:
        errors = failed(program)
        assert sorted(error or "" for error in errors.values()) == ["", "", "too many sessions"]
        assert "refused the session" in program.event("dial-failed")["text"]
    assert not noted(state)


@pytest.mark.parametrize(
    ("wish", "error", "said"),
    [
        ("password: not-the-secret", "wrong password", "refused"),
        ("password: lab, auth: [pap]", "no common authentication", "insists on chap"),
    ],
)
def test_a_concentrator_that_will_not_have_us(
    far: type[Provider], state: Path, tmp_path: Path, wish: str, error: str, said: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"sessions: [{{name: one, user: alice, autodial: true, {wish}}}]\n")
    far(auth=("chap",), services=("internet",))
    with running(*on_card(config, state, "--timeout", "4")) as program:
        assert failed(program) == {"one": error}
        text = program.event("dial-failed", "one")["text"]
        assert said in text
        assert "not-the-secret" not in str(program.said)
    assert not noted(state)


def test_nobody_answers_for_long(far: type[Provider], state: Path, tmp_path: Path) -> None:
    """Each failure says what there was, and the result still does when the next try is under way."""
    config = tmp_path / "config.yaml"
    config.write_text(
        "defaults: {user: alice, password: lab, autodial: true}\n"
        "sessions: [{name: service, service: iptv}, {name: other, ac: other}]\n"
    )
    far(services=("internet",))
    with running(*on_card(config, state, "--timeout", "18.5")) as program:
        errors = failed(program)
        texts = {name: program.event("dial-failed", name)["text"] for name in errors}
        assert texts["service"].startswith(
            "No answer to 4 PADIs in 15 s. Is the modem in bridge mode? Trying again in "
        )
        assert texts["other"].startswith("No wanted concentrator answered 4 PADIs in 15 s; others did: souppp-lab (")
        for name, error in errors.items():
            assert error in ("no concentrator answers", f"not up in time: still dialling; before that: {texts[name]}")
    assert not noted(state)
