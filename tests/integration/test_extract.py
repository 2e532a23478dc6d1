"""Stealing a run's model, and one behind a real server, through the command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from integration.files import left, sha256
from integration.forks import Outcome, background, command
from robustml.results import ExtractionResults, read_results

QUICK = ("training.steps=20", "curve=[0.5]", "transfer_limit=20", "attack.steps=2", "model@student=mlp")


def block(outcome: Outcome) -> ExtractionResults:
    results = read_results(outcome.run / "results.json")
    assert results.extraction is not None
    return ExtractionResults.model_validate(results.extraction)


def test_a_copy_of_a_run(run_copy: Path, tmp_path: Path) -> None:
    before = {name: sha256(run_copy / name) for name in left(run_copy)}
    words = [f"victim={run_copy}", "method=knockoff", "pool=noise", "budget=60"]
    outcome = command("extract", *words, *QUICK, cwd=tmp_path, drawn=True)
    assert outcome.err == ""
    assert outcome.run.parent == run_copy / "extractions"
    assert left(outcome.run) == {"config.yaml", "copy.safetensors", "report.html", "results.json"}
    assert {name: sha256(run_copy / name) for name in before} == before
    results, victim = read_results(outcome.run / "results.json"), read_results(run_copy / "results.json")
    assert (results.command, results.experiment) == ("extract", f"copy of {victim.experiment}")
    assert results.model.name == "MLP"
    assert results.model.sha256 == f"sha256:{sha256(outcome.run / 'copy.safetensors')}"
    assert sum(tensor.numel() for tensor in load_file(outcome.run / "copy.safetensors").values()) > 0
    found = block(outcome)
    assert (found.method, found.pool, found.queries, found.budget) == ("Knockoff", "Noise", 60, 60)
    assert [point.queries for point in found.curve] == [30, 60]
    assert found.victim_accuracy == victim.clean_accuracy
    assert found.accuracy == results.clean_accuracy
    assert found.curve[-1].fidelity == found.fidelity
    assert 0 < found.transfer_success.n <= 20
    assert found.defense is None
    assert "fidelity of the copy" in outcome.out
    page = (outcome.run / "report.html").read_text()
    assert "Model extraction" in page
    assert "queries answered" in page


def test_a_defense_by_its_config(run_copy: Path, tmp_path: Path) -> None:
    words = "method=jacobian method.seeds=10 defense=noise budget=35"
    outcome = command("extract", f"victim={run_copy}", *words.split(), *QUICK, cwd=tmp_path)
    found = block(outcome)
    assert found.queries == 35
    assert found.defense is not None
    assert found.defense.name == "OutputNoise"
    assert "honest users: accuracy" in outcome.out
    assert "secret: null" in (outcome.run / "config.yaml").read_text()


@dataclass
class Server:
    """A forked `robustml serve`, and the files that it speaks into."""

    process: BaseProcess
    out: Path
    err: Path

    @property
    def url(self) -> str:
        """Where it serves, once it does."""
        for _ in range(600):
            said = self.out.read_text().split("\n")[:-1] if self.out.exists() else []
            if said and said[-1].startswith("serving on "):
                return said[-1].removeprefix("serving on ")
            time.sleep(0.05)
        raise AssertionError(self.err.read_text())

    def end(self, by: signal.Signals) -> Outcome:
        """Send the signal and wait."""
        assert self.process.pid is not None
        os.kill(self.process.pid, by)
        self.process.join(20)
        assert self.process.exitcode is not None, "it did not end"
        return Outcome(self.process.exitcode, self.out.read_text(), self.err.read_text())


@contextmanager
def serving(run: Path, cwd: Path, *words: str) -> Iterator[Server]:
    out, err = cwd / "serve.out", cwd / "serve.err"
    server = Server(background("serve", f"run={run}", "port=0", *words, out=out, err=err, cwd=cwd), out, err)
    try:
        assert server.url.startswith("http://127.0.0.1:")
        yield server
    finally:
        server.process.kill()
        server.process.join()


def test_a_model_behind_a_server_is_stolen_as_one_at_hand(run_copy: Path, tmp_path: Path) -> None:
    words = ["method=knockoff", "pool=noise", "budget=60", "threat.eps=0.1", *QUICK]
    with serving(run_copy, tmp_path, "limits.inputs=8") as server:
        places = ("data=digits", "data.test_limit=90", "batch_size=8")
        far = command("extract", f"victim={server.url}", *places, *words, cwd=tmp_path)
        ended = server.end(signal.SIGINT)
    assert (ended.status, ended.err) == (0, "")
    served = Path(ended.out.splitlines()[-1].removeprefix("run: "))
    assert served.parent == run_copy / "served"
    near = command("extract", f"victim={run_copy}", *words, cwd=tmp_path)
    assert far.run.parent == tmp_path / "outputs" / "extract"
    assert block(far) == block(near)
    lines = [json.loads(line) for line in (served / "queries.jsonl").read_text().splitlines()]
    found = block(far)
    assert found.measuring == 90 + found.transfer_success.n
    assert found.counted == sum(line["n"] for line in lines) == found.queries + found.measuring
    asked = f"{found.measuring} inputs; the victim counted {found.counted}"
    assert asked in " ".join(far.out.split())
    assert asked in (far.run / "report.html").read_text()
    assert {line["status"] for line in lines} == {200}


def test_a_server_with_a_defense_ends_on_sigterm(run_copy: Path, tmp_path: Path) -> None:
    with serving(run_copy, tmp_path, "defense=noise", "defense.secret=hidden") as server:
        words = ["data=digits", "data.test_limit=20", "method=copycat", "budget=20", *QUICK]
        assert command("extract", f"victim={server.url}", *words, cwd=tmp_path).status == 0
        ended = server.end(signal.SIGTERM)
    assert (ended.status, ended.err) == (0, "")
    served = Path(ended.out.splitlines()[-1].removeprefix("run: "))
    assert not any("hidden" in path.read_text() for path in served.iterdir()), "the secret is written down"


REFUSED = {
    "no victim": ("budget=5", "victim="),
    "no such run": ("victim=none", "none"),
    "budget a word": ("victim={run} budget=many", "'many'"),
    "unknown method": ("victim={run} method=copycats", "'copycat'"),
    "the spelling of version 0.1": ("victim={run} defence=top1", "'defense'"),
    "a bandit without classes": ("victim={run} method=knockoff method.strategy=adaptive", "strategy=random"),
    "other data": ("victim={run} data=digits data.num_classes=9", "9 classes"),
    "an endpoint without data": ("victim=http://127.0.0.1:{port}", "data="),
    "an IPv6 endpoint that is down": ("victim=http://[::1]:{port}/ data=digits", "http://[::1]:{port}/about cannot be"),
    "a password": ("victim=http://me:hidden@127.0.0.1:{port} data=digits", "no user and password"),
    "an endpoint that is down": ("victim=http://127.0.0.1:{port} data=digits", "cannot be reached"),
    "a file as an endpoint": ("victim=file:///etc/passwd data=digits", "no address"),
    "a defense of an endpoint": ("victim=http://127.0.0.1:{port} data=digits defense=top1", "robustml serve"),
}


@pytest.fixture
def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("case", REFUSED)
def test_extract_refuses(case: str, run_copy: Path, free_port: int, tmp_path: Path) -> None:
    words, expected = REFUSED[case]
    before = left(tmp_path)
    outcome = command("extract", *words.format(run=run_copy, port=free_port).split(), cwd=tmp_path)
    assert outcome.status == 2, outcome.out + outcome.err
    assert expected.format(port=free_port) in outcome.error
    assert left(tmp_path) == before
    assert not (run_copy / "extractions").exists()


def test_an_endpoint_of_something_else(run_copy: Path, tmp_path: Path) -> None:
    """A web server that knows nothing of models."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=run_copy, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split(" port ")[1].split()[0]
        outcome = command("extract", f"victim=http://127.0.0.1:{port}", "data=digits", cwd=tmp_path)
    finally:
        server.kill()
        server.communicate()
    assert outcome.status == 2
    assert "status 404" in outcome.error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "run"),
        ("run={run} limits.inputs=0", "limits.inputs"),
        ("run={run} -m", "-m"),
    ],
)
def test_serve_refuses(words: str, expected: str, run_copy: Path, tmp_path: Path) -> None:
    outcome = command("serve", *words.format(run=run_copy).split(), cwd=tmp_path)
    assert outcome.status == 2, outcome.out + outcome.err
    assert expected in outcome.error
    assert not (run_copy / "served").exists()
