"""`souppp-tui exporter` as Prometheus meets it: a process of its own beside an engine in the lab."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT
from tests.program import COMMAND, PATIENCE, until
from tests.promtool import judged
from tests.system.test_served import ENVIRONMENT, SESSIONS, USAGE, ctl, served

pytestmark = pytest.mark.usefixtures("needs_root")

MONITORING = ROOT / "docs" / "monitoring"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.sock"


class Exporter:
    """One that runs."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [*COMMAND, "exporter", "--listen", "127.0.0.1:0", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def page(self) -> str:
        with urllib.request.urlopen(self.address, timeout=PATIENCE) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text: str = answer.read().decode()
            return text

    def values(self) -> dict[str, float]:
        """By name with labels, as a line begins."""
        lines = [line.rpartition(" ") for line in self.page().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def end(self) -> str:
        """What it has complained of."""
        self.process.terminate()
        _, complaints = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, complaints
        assert "Traceback" not in complaints
        return complaints


@contextmanager
def exporting(*arguments: str | Path) -> Iterator[Exporter]:
    exporter = Exporter(*arguments)
    try:
        yield exporter
    finally:
        exporter.process.kill()
        exporter.process.wait()


def test_what_sessions_do_is_seen_and_the_judge_finds_nothing_wrong(path: Path) -> None:
    with served(path), exporting("--socket", path, "--sessions") as exporter:
        ctl(path, "wait")
        until(lambda: exporter.values().get('souppp_sessions{state="up"}') == SESSIONS, "all up")
        judged("check", "metrics", given=exporter.page().encode())
        first = exporter.values()
        assert first['souppp_session_up{session="lab-02"}'] == 1
        assert first["souppp_dials_total"] == SESSIONS

        ctl(path, "hangup", "lab-01")
        ctl(path, "remove", "lab-02")
        until(lambda: exporter.values()['souppp_session_ends_total{reason="hung_up"}'] == 2, "both ends")
        until(lambda: 'souppp_session_up{session="lab-02"}' not in exporter.values(), "no trace of it")
        later = exporter.values()
        assert later['souppp_session_up{session="lab-01"}'] == 0
        assert not [name for name in later if "lab-02" in name]
        assert not [name for name in first if "_total" in name and "lab-02" not in name and later[name] < first[name]]
        clients = json.loads(ctl(path, "--json", "status"))["clients"]
        assert {client["program"] for client in clients} == {"ctl", "exporter"}
        exporter.end()


def test_dashboard_and_alerts_ask_for_what_there_is(path: Path) -> None:
    """Every metric and every value of a label that they name is on a real page."""
    alerts = MONITORING / "alerts.yaml"
    judged("check", "rules", alerts)
    asked = [line for line in alerts.read_text().splitlines() if "souppp_" in line and "summary" not in line]
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    asked += [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [each["expr"] for each in dashboard["annotations"]["list"]]
    with served(path), exporting("--socket", path, "--sessions") as exporter:
        until(lambda: exporter.values()["souppp_up"], "the engine")
        page = exporter.page()
    known, labels = set(), set()
    families = [*text_string_to_metric_families(page)]
    for family in families:
        known |= {family.name, *(sample.name for sample in family.samples)}
        known |= {f"{family.name}_total"} if family.type == "counter" else set()
        labels |= {(sample.name, *pair) for sample in family.samples for pair in sample.labels.items()}
    assert len(asked) > 30
    table = set(re.findall(r"`(souppp_\w+)`", (MONITORING / "README.md").read_text())) - {"souppp_up 0"}
    assert table == {family.name + "_total" * (family.type == "counter") for family in families}
    for line in asked:
        for name, selected in re.findall(r"(souppp_\w+)(?:\{([^}]*)\})?", line):
            assert name in known, line
            for label, value in re.findall(r'(\w+)!?="([^"]*)"', selected):
                assert (name, label, value) in labels, line


def test_alerts_are_raised_when_they_should_be(tmp_path: Path) -> None:
    """Prometheus' own test of rules, on series as this exporter makes them."""
    series = {
        "souppp_up": "1x5 0x20",
        'souppp_sessions{state="up"}': "8x5 7x20",
        "souppp_sessions_autodial": "8x25",
        'souppp_dial_failures_total{reason="wrong_password"}': "0x5 1x20",
        'souppp_dial_failures_total{reason="hung_up"}': "0+10x25",
        "souppp_dials_total": "0+10x25",
    }
    wanted = {"SoupppEngineUnreachable": 1, "SoupppSessionsMissing": 1, "SoupppWrongPassword": 1, "SoupppDialsFail": 0}
    checks = [
        {"expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)', "eval_time": "12m"}
        | {"exp_samples": [{"labels": "{}", "value": count}]}
        for name, count in wanted.items()
    ]
    tests = [{"interval": "1m", "input_series": [{"series": s, "values": v} for s, v in series.items()]}]
    rules = {"rule_files": [str(MONITORING / "alerts.yaml")], "evaluation_interval": "1m", "tests": tests}
    rules["tests"][0]["promql_expr_test"] = checks  # type: ignore[index]
    (tmp_path / "test.yaml").write_text(json.dumps(rules))
    judged("test", "rules", tmp_path / "test.yaml")


def test_the_engine_may_come_and_go(path: Path) -> None:
    with exporting("--socket", path) as exporter:
        assert exporter.values() == {"souppp_up": 0, **_own(exporter)}
        for _ in range(2):
            with served(path):
                until(lambda: exporter.values()["souppp_up"], "it")
                until(lambda: exporter.values()['souppp_sessions{state="up"}'] == SESSIONS, "its sessions")
                assert not [name for name in exporter.values() if "session=" in name]
            until(lambda: not exporter.values()["souppp_up"], "that it is gone")
            assert exporter.values() == {"souppp_up": 0, **_own(exporter)}
        complaints = exporter.end()
    assert "no engine listens there. Start one" in complaints
    assert "The engine is reached." in complaints


def _own(exporter: Exporter) -> dict[str, float]:
    return {name: value for name, value in exporter.values().items() if name.startswith("souppp_exporter_info{")}


def test_what_is_wrong_is_said_with_an_exit_code(path: Path) -> None:
    def said(*arguments: str) -> tuple[int, str]:
        done = subprocess.run([*COMMAND, "exporter", *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60)
        return done.returncode, done.stderr

    for wrong in ("9777", "127.0.0.1:", "127.0.0.1:99999"):
        code, complaint = said("--listen", wrong)
        assert code == USAGE
        assert "must be ADDRESS:PORT" in complaint
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, complaint = said("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        assert code == ENVIRONMENT
        assert "can't be listened on: Address already in use. Another address: --listen" in complaint
        assert complaint.count("\n") == 1
