"""The jobs of a day that docs/console.md tells, with the keys that it tells, in a real terminal on a real engine.

One program with sixty sessions of the lab serves them all: each job begins at its table, and goes back to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from shlex import join, quote

import pytest

from souppp_tui.model.groups import GROUPINGS
from souppp_tui.show import words
from tests.conftest import ROOT, run
from tests.program import COMMAND, descendants, until
from tests.terminal import Terminal, needs_tmux

pytestmark = [pytest.mark.usefixtures("needs_root"), needs_tmux]

NAMES = {"⏎": "Enter", "␣": "Space", "⇥": "Tab", "↑": "Up", " ": "Space"}
MANUAL = ROOT / "docs" / "console.md"
TABLE = "─ 60 sessions ─"
WRONG = {"home": range(7, 40, 7), "shop": range(2, 20, 7)}
"""Who has a wrong password."""
FAILED = [f"{kind}-{n:02}" for kind, numbers in WRONG.items() for n in numbers]
CONFIG = """\
sessions:
  - {{name: "home-{{n:02}}", user: "u{{n}}", password: lab, count: 40, service: silver, except: {home}}}
  - {{name: "shop-{{n:02}}", user: "s{{n}}", password: lab, count: 20, service: gold, vlan: 7, except: {shop}}}
defaults: {{autodial: true}}
dial: {{retry_min: 3600, retry_max: 3600}}  # who fails stays so
console: {{confirm_above: 5}}
"""


class Day:
    """A console at work, and where its program and its files are."""

    def __init__(self, terminal: Terminal, folder: Path) -> None:
        self.terminal, self.folder = terminal, folder

    def press(self, keys: str) -> None:
        """Keys with blanks between them, or a line as it is typed; all at once, as a hand that knows them does."""
        spaced = len(keys) > 1 and all(len(part) == 1 for part in keys.split(" "))
        self.terminal.type(*(NAMES.get(key, key) for key in (keys.split(" ") if spaced else keys)))

    def shows(self, *parts: str) -> str:
        """Wait for texts, wherever their lines are broken; the screen."""

        def look() -> str | None:
            screen = self.terminal.screen()
            flat = " ".join(screen.split())
            return screen if all(part in screen or part in flat for part in parts) else None

        try:
            return until(look, "it") or ""
        except AssertionError:
            raise AssertionError(f"never saw {parts} but\n{self.terminal.screen()}") from None

    def resize(self, columns: int, rows: int) -> None:
        """Make the window so large, and wait until the console fits."""
        self.terminal.resize(columns, rows)

        def fits() -> bool:
            lines = self.terminal.screen().rstrip("\n").splitlines()
            whole = len(lines) == rows and lines[-1].rstrip().endswith("q quit")
            return whole and any(line.startswith(TABLE) and len(line) == columns for line in lines)

        until(fits, "a screen of the new size")

    def home(self, grouped: str = "state") -> None:
        """Back to the table with all sessions; `grouped`: what the summary was left grouped by."""
        if grouped != "state":
            names = [*GROUPINGS]
            self.terminal.type("1", *"g" * (len(names) - names.index(grouped)))
            self.shows("60 sessions by state")
        until(self._is_home, "the table")
        self.terminal.type("C-l", "g")  # an escape on its way is no part of the next key

    def at_the_top(self) -> None:
        """The same, and all is drawn that was to be drawn: the cursor, which was elsewhere, is on the first row."""
        self.home()
        self.shows("▸ ● home-01")

    def _is_home(self) -> bool:
        before = self.terminal.screen()
        if TABLE in before and "╭" not in before:
            return True
        self.terminal.type("Escape")
        until(lambda: self.terminal.screen() != before, "an answer to escape")
        return False

    def click(self, text: str, button: int = 0, ends: str = "Mm") -> tuple[int, int]:
        """Press and let go a button of the mouse where a text stands, all at once; where that was."""
        lines = self.shows(text).splitlines()
        y = next(y for y, line in enumerate(lines) if text in line)
        place = lines[y].index(text) + 1, y + 1
        self.mouse(*place, button, ends)
        return place

    def mouse(self, x: int, y: int, button: int = 0, ends: str = "Mm") -> None:
        """What a terminal sends for its mouse (SGR, xterm's ctlseqs)."""
        self.terminal.tmux("send-keys", "-l", "".join(f"\x1b[<{button};{x};{y}{end}" for end in ends))

    def provider(self) -> Callable[[str], None]:
        """Takes the other end of the card's cable `down`, or brings it `up`."""
        (pid,) = (
            pid
            for pid in descendants(self.terminal.pid)
            if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"engine.lab\0")
        )
        return lambda how: print(run("nsenter", "-t", str(pid), "-n", "ip", "link", "set", "provider", how))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    folder = tmp_path_factory.mktemp("day")
    config = folder / "day.yaml"
    wrong = {kind: ", ".join(f"{n}: {{password: wrong}}" for n in numbers) for kind, numbers in WRONG.items()}
    config.write_text(CONFIG.format(**{kind: f"{{{numbers}}}" for kind, numbers in wrong.items()}))
    config.chmod(0o600)
    command = join([*COMMAND, "--lab", "--config", str(config)])
    with closing(Terminal(folder)) as terminal:
        terminal.start(
            f"TZ=UTC PYTHONPATH={quote(str(ROOT))} sh -c {quote(f'cd {quote(str(folder))} && exec {command}')}"
        )
        terminal.tmux("set-option", "-s", "set-clipboard", "on")
        terminal.shows("52 up", "8 failed", TABLE)
        yield Day(terminal, folder)
        terminal.type("C-q")
        terminal.shows("Quit and hang up 52 sessions?")
        terminal.type(*"52", "Enter")
        assert terminal.ended() == 0


@pytest.fixture
def day(opened: Day) -> Day:
    opened.home()
    return opened


JOBS = (
    ("who failed, and why", "1 g", "wrong password 8", "reason"),
    ("all that failed for one reason, in the table", "1 g j ⏎", "8 of 60", "reason"),
    ("failed sessions of service gold", "/state=failed service=gold⏎", "3 of 60", "state"),
    ("failed sessions of service gold", "/st⇥f⇥␣ser⇥g⇥⏎", "3 of 60", "state"),
    ("why is this one down", "j j j j j j ⏎", "why it is not up", "state"),
    ("is it the line, or only this one", "j j j j j j ⏎", "39 others with service silver: 35 up, 4 failed.", "state"),
    ("who carries most now", "t", "Top talkers by rate now", "state"),
    (
        "who carried most in five minutes, in all",
        "t t",
        "Top talkers by octets in five minutes; t again: in all.",
        "state",
    ),
    (
        "who carried most in five minutes, in all",
        "t t t",
        "Top talkers by octets in all; t again: as configured.",
        "state",
    ),
    ("the slowest to answer first", "b e", "sort: rtt ▼", "state"),
    ("was it slow an hour ago", "⏎", "traffic, ", "state"),
    ("is one queue full", "i", "side by side", "state"),
    ("who did that", "A", "actions: ", "state"),
    ("end everything at once", "H", "End all sessions, and dial nobody", "state"),
)
TALL = "was it slow an hour ago"
"""What it looks for stands further down in a small window."""
SPOTS = (TALL, "who failed, and why", "failed sessions of service gold", "is one queue full", "end everything at once")


@pytest.mark.parametrize(
    ("columns", "rows", "job", "keys", "shown", "grouped"),
    [
        *((80, 24, *job) for job in JOBS if job[0] != TALL),
        *(
            (*size, *job)
            for size in ((60, 15), (120, 40))
            for job in JOBS
            if job[0] in SPOTS and (job[0] != TALL or size[1] > 24)
        ),
    ],
)
def test_a_job_takes_the_keys_that_are_told(
    day: Day, columns: int, rows: int, job: str, keys: str, shown: str, grouped: str
) -> None:
    assert f"| {job} |" in MANUAL.read_text(encoding="utf-8")
    day.resize(columns, rows)
    day.press(keys)
    screen = day.shows(shown)
    assert len(screen.splitlines()) <= rows
    assert max(map(len, screen.splitlines())) <= columns
    day.home(grouped)
    if keys[0] in "tb":
        day.press("b 0")
        until(lambda: "sort: " not in day.terminal.screen(), "the order of the configuration")


def test_all_of_one_vlan_and_then_all_that_failed(day: Day) -> None:
    """By their groups: seven keys and more, then five. The log of actions tells of both."""
    day.resize(80, 24)
    day.press("1 g g g g")
    day.shows("60 sessions by vlan")
    day.press("j h")
    day.shows("Hang up 20 sessions, such as shop-01, shop-02 and shop-03?", "17 of them are open")
    day.press("y")
    day.shows("35 up", "5 failed", "20 down")
    day.press("d y")
    day.shows("52 up", "8 failed")
    day.home("vlan")
    day.press("1 g j d")
    day.shows("Dial 8 sessions")
    day.press("y")
    day.shows("52 up", "8 failed")
    day.home("reason")
    day.press("A")
    day.shows("Hang up: 20 sessions, by the console here", "Dial: 8 sessions, by the console here", "now: 8 failed")


def test_a_filter_with_a_name_and_the_one_before(day: Day) -> None:
    day.press("/state=failed⏎")
    day.shows("8 of 60")
    day.press(":save fg⏎")
    until(lambda: 'fg: "state=failed"' in (day.folder / "day.yaml").read_text(), "that in the file")
    day.home()
    day.press("/@fg⏎")
    day.shows("@fg", "8 of 60")
    day.home()
    day.press("/↑⏎")
    day.shows("@fg", "8 of 60")


def test_what_is_down_is_reported(day: Day) -> None:
    """As a file of either kind, and to the clipboard: by OSC 52, which goes through a terminal that is far away."""
    day.resize(80, 24)
    day.press("/failed⏎w⏎")
    (csv,) = until(lambda: [*day.folder.glob("*.csv")], "a file")
    day.shows("8 of 60", csv.name)
    assert len(csv.read_text().splitlines()) == 1 + 8
    day.press("w J")
    (told,) = until(lambda: [*day.folder.glob("*.json")], "a file")
    day.shows(told.name)
    assert [row["name"] for row in json.loads(told.read_text())] == FAILED
    day.press("w y")
    day.shows("Copied 8 lines of sessions.")
    copied = until(lambda: day.terminal.tmux("show-buffer"), "a clipboard")
    assert [line.split("\t")[0] for line in copied.splitlines()[1:]] == FAILED


def test_the_mouse(day: Day) -> None:
    """As xterm and all others send it: rows, heads, keys in the footer, twice on a row, drawn over rows, the wheel."""
    day.resize(80, 24)
    day.press("j j")
    day.shows("▸ ● home-03")
    day.at_the_top()
    day.click("home-03")
    day.shows("▸ ● home-03")
    day.click("UPTIME")
    day.shows("sort: uptime")
    day.press("b 0")
    day.at_the_top()
    day.click("home-05", ends="MmMm")
    day.shows("─ home-05  ● up ─")
    day.at_the_top()
    x, y = day.click("home-02", ends="M")
    day.mouse(x, y + 2, 32, "M")
    day.mouse(x, y + 2, 0, "m")
    day.shows("3 marked")
    day.press("\\")
    day.click("hang up")
    day.shows("Hang up home-")
    day.at_the_top()
    day.click("home-04", 65, "M")
    until(lambda: "home-01" not in day.terminal.screen(), "rows further down")
    day.press("p")
    day.shows("redials paused")
    day.press("p")
    until(lambda: "redials paused" not in day.terminal.screen(), "redials that go on")


def test_the_cursor_is_on_whom_one_means(day: Day) -> None:
    """The first that a filter finds, if its own is gone; who was just added: the next `D` is for that one."""
    day.resize(80, 24)
    day.press("/shop⏎")
    day.shows("▸ ● shop-01")
    day.home()
    day.terminal.type("a", *"extra", "Tab", *"extra", "Tab", *"lab", "C-s")
    day.shows("▸ ○ extra", "61 sessions")
    day.press("D")
    day.shows("Remove extra?")
    day.press("y")
    day.home()
    assert "extra" not in (day.folder / "day.yaml").read_text()


def test_a_capture_is_seen_on_every_page_in_a_small_window(day: Day) -> None:
    day.resize(60, 15)
    day.press("c")
    day.shows("◉ capturing 1")
    for key, title in (("1", "sessions by state"), ("e", "events: "), ("i", "card lab0")):
        day.press(key)
        day.shows(title, "◉ capturing 1")
    day.home()
    day.press("c")
    until(lambda: "capturing" not in day.terminal.screen(), "its end")
    assert [*day.folder.glob("*.pcapng")]


def test_a_small_window_says_when_who_failed_is_dialled_next_and_adds_up(day: Day) -> None:
    """Also in a real terminal: the time was cut off, and the summary left out those that are down."""
    day.resize(60, 15)
    day.press("/failed⏎")
    day.shows("8 of 60", "wrong password (retry in ")
    day.press(":")
    assert "/ filter" not in day.shows("type a part of a command's name"), "the page does not hear its keys"
    day.home()
    day.press("1")
    lines = day.shows("SESSIONS", "failed").splitlines()
    (head, *groups) = (line for line in lines if line[1:].startswith(("GROUP", "up  ", "failed  ")))
    assert re.search(r"SESSIONS +UP +WAIT +FAIL +DOWN", head)
    for group in groups:
        number, *parts = map(int, re.findall(r" (\d+)(?= |$)", group[: head.index("DOWN") + 4]))
        assert number == sum(parts)
    day.home()


def test_a_line_that_is_lost_is_one_event_and_only_what_was_sent_is_shown(day: Day) -> None:
    """Fifty-two sessions lost are one alarm, which stays until the events are seen; the sessions are found by it.

    Who was hung up meanwhile has no PADT among its frames before one can be sent.
    """
    day.resize(120, 40)
    day.press("/home-01⏎")
    day.shows("1 of 60")
    day.press("⏎")
    before = day.shows("─ home-01  ● up ─", "ladder")
    assert "PADT" not in before
    provider = day.provider()
    provider("down")
    day.shows("link down", "1 alarm", "52 sessions lost", "failed · card is down")
    day.press("h")
    day.shows("down · hung up by you")
    assert "PADT" not in day.terminal.screen()
    provider("up")
    day.shows("51 up", "8 failed", "1 down", "→  PADT")
    day.press("d")
    day.shows("52 up", "1 alarm")
    day.home()
    day.press("e b")
    day.shows("causes: ")
    day.press("/carrier⏎")
    screen = day.shows("52 sessions", "lab0 lost its carrier.")
    assert "alarm" not in screen
    day.press("⏎")
    day.shows("is:marked", "52 of 60", "52 marked")
    day.press("\\")
    day.home()


def test_where_an_address_is_and_what_was_carried_there(day: Day) -> None:
    """Found by a part of it; and what the screen counts is what the kernel does."""
    day.resize(120, 40)
    day.press("/shop-20⏎")
    screen = day.shows("1 of 60", "● shop-20")
    (address,) = re.findall(r"100\.64\.0\.\d+(?=  )", screen)
    (device,) = re.findall(r"  (soup\d+) ", screen)
    (pid,) = re.findall(r"try: nsenter -t (\d+) ", screen)
    day.home()
    day.press(f"/{address.removeprefix('100.')}⏎")
    day.shows("1 of 60", "● shop-20")
    inside = ("nsenter", "-t", pid, "-n")
    run(*inside, "ping", "-q", "-c", "3", "-i", "0.01", "-s", "1000", "-I", device, "100.64.0.1")
    day.press("⏎")

    def agree() -> bool:
        (link,) = json.loads(run(*inside, "ip", "-s", "-j", "link", "show", device))
        counts = (link["stats64"][way]["bytes"] for way in ("rx", "tx"))
        told = [words.rate(count, "B") for count in counts]
        return [
            line.split("in all")[0].strip() for line in day.terminal.screen().splitlines() if " in all" in line
        ] == told

    until(agree, "the octets that ip counts")


def test_the_numbers_of_keys_are_counted() -> None:
    """Of each row whose keys stand there as they are pressed, the first way of several."""
    told = MANUAL.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+`) \| (\d+)(?:[;,] [\d, ]+)? \|", told, re.MULTILINE)
    counted = {}
    for job, keys, number in rows:
        pressed = re.match(r"(?:`[^`]+` ?)+", keys)
        assert pressed is not None
        counted[job] = (int(number), sum(len(key) for key in re.findall("`([^`]+)`", pressed[0])))
    assert len(counted) > 15
    assert {job: numbers for job, numbers in counted.items() if numbers[0] != numbers[1]} == {}
