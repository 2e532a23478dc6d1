"""The audit log: the first bad entry is named, and neither a kill nor two writers at once break it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from integrity.conftest import new_signer
from robustml.errors import RequestError, RunFailed
from robustml.integrity.audit_log import append, head_of, verify_log
from robustml.integrity.keys import read_private, read_public, verifies
from robustml.integrity.seen import remember_head
from robustml.integrity.trust import Untrusted, add_key, read_trust
from robustml.workflows.integrity.auditing import audited, audits, verify_audit_log


@pytest.fixture
def log(tmp_path, alice):
    for number in range(6):
        append(
            tmp_path / "log", read_private(alice), "signed", {f"m{number}": "sha256:" + "0" * 64}, {"number": number}
        )
    return tmp_path / "log"


def lines(log):
    return log.read_bytes().splitlines(keepends=True)


def test_an_entry_is_what_the_documentation_says(log, alice):
    """Read without our own code: the chain, and the message that is signed."""
    before = "0" * 64
    for number, line in enumerate(lines(log), start=1):
        entry = json.loads(line)
        assert (entry["sequence"], entry["before"]) == (number, before)
        signature = base64.b64decode(entry["signature"])
        unsigned = json.dumps({**entry, "signature": ""}, separators=(",", ":")).encode()
        message = b"DSSEv1 35 application/vnd.robustml.audit+json " + str(len(unsigned)).encode() + b" " + unsigned
        assert verifies(read_public(alice / "public.pem"), signature, message)
        before = hashlib.sha256(line.removesuffix(b"\n")).hexdigest()
    read = verify_log(log, read_trust(alice), latest=2)
    assert (read.entries, read.signers, read.head.digest) == (6, {"alice": 6}, before)
    assert [entry.facts["number"] for entry, _ in read.latest] == [4, 5]


def swap(all_lines, one, other):
    changed = list(all_lines)
    changed[one], changed[other] = changed[other], changed[one]
    return changed


TAMPERINGS = {
    "edited": (
        lambda log: [*log[:2], log[2].replace(b'"number":2', b'"number":7'), *log[3:]],
        "3 is bad: it was edited",
    ),
    "date": (lambda log: [log[0].replace(b'"time":"2', b'"time":"1'), *log[1:]], "entry 1 is bad: it was edited"),
    "removed": (lambda log: [*log[:2], *log[3:]], "entry 3 is bad: removed, or moved: number 4 stands there"),
    "removed first": (lambda log: log[1:], "entry 1 is bad: removed, or moved: number 2 stands there"),
    "removed two": (lambda log: [*log[:1], *log[3:]], "entry 2 is bad: .* and 2 to 3 is missing"),
    "reordered": (lambda log: swap(log, 1, 2), "entry 2 is bad: removed, or moved: number 3"),
    "inserted": (lambda log: [*log[:4], log[1], *log[4:]], "entry 5 is bad: inserted, or moved: number 2"),
    "doubled": (lambda log: [*log, log[-1]], "entry 7 is bad: inserted, or moved: number 6"),
    "other letters": (
        lambda log: [log[0].replace(b'{"log"', b'{ "log"'), *log[1:]],
        "entry 1 is bad: it is written oth",
    ),
    "field twice": (
        lambda log: [log[0].replace(b'"facts"', b'"what":"a","facts"'), *log[1:]],
        "1 is bad: a key stands",
    ),
    "more fields": (
        lambda log: [log[0].replace(b'"facts"', b'"fact":1,"facts"'), *log[1:]],
        "1 is bad: it is no entry",
    ),
    "torn": (lambda log: [*log[:5], log[5][:-9]], "entry 6 is bad: it is torn"),
    "no end": (lambda log: [*log[:5], log[5][:-1]], "entry 6 is bad: it is torn"),
    "blank": (lambda log: [*log[:3], b"\n", *log[3:]], "entry 4 is bad"),
    "garbage": (lambda log: [*log, bytes(range(256)) * 999], "entry 7 is bad"),
    "endless": (lambda log: [*log, b"x" * 10**6], "entry 7 is bad: it is too long"),
    "no signature": (
        lambda log: [log[0].split(b'"signature"')[0] + b'"signature":"~"}\n'],
        "1 is bad: its signature is not",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_the_first_bad_entry_is_named(log, alice, name):
    change, said = TAMPERINGS[name]
    log.write_bytes(b"".join(change(lines(log))))
    with pytest.raises(Untrusted, match=said):
        verify_log(log, read_trust(alice))


def test_a_log_that_was_cut_off_is_missed_by_whoever_saw_its_end(log, alice, tmp_path):
    trust = read_trust(alice)
    read = verify_log(log, trust)
    remember_head(alice, read.head.log, head_of(read.head, log))
    whole = lines(log)
    log.write_bytes(b"".join(whole[:4]))
    with pytest.raises(Untrusted, match=r"entry 5 is missing: .* has seen 6 entries, and it was cut off after 4"):
        verify_log(log, trust)
    log.write_bytes(b"")
    with pytest.raises(Untrusted, match=r"is empty: .* has seen 6 entries of one that lay there"):
        verify_log(log, trust)
    # somebody who has the key, or gets it later, writes another end, or another log
    log.write_bytes(b"".join(whole[:4]))
    for _ in range(3):
        append(log, read_private(alice), "signed", {}, {})
    with pytest.raises(Untrusted, match=r"entry 6 is not the one that .* has seen: it was rewritten"):
        verify_log(log, trust)
    log.unlink()
    append(log, read_private(alice), "signed", {}, {})
    with pytest.raises(Untrusted, match=r"is another log: .* has seen 6 entries of one that lay there"):
        verify_log(log, trust)
    log.write_bytes(b"".join(whole))
    append(log, read_private(alice), "signed", {}, {})
    assert verify_log(log, trust).entries == 7


def test_a_head_that_is_given_must_be_in_the_log(log, alice, tmp_path):
    stranger = read_trust(new_signer(tmp_path / "bob", "bob"))
    add_key(stranger.folder, read_public(alice / "public.pem"), "alice", ["log"])
    trust = read_trust(stranger.folder)
    head = verify_log(log, trust).head.digest
    append(log, read_private(alice), "signed", {}, {})
    assert verify_log(log, trust, f"sha256:{head}").entries == 7
    log.write_bytes(b"".join(lines(log)[:5]))
    assert verify_log(log, trust).entries == 5  # which nobody can see without it
    with pytest.raises(Untrusted, match="no entry has the digest"):
        verify_log(log, trust, head)
    with pytest.raises(RequestError, match="head must be a SHA-256"):
        verify_log(log, trust, "abc")


def test_strangers_and_keys_that_may_not_sign_logs_are_named(log, alice, mallory):
    append(log, read_private(mallory), "trained", {}, {})
    with pytest.raises(Untrusted, match="entry 7 is bad: it is by a stranger"):
        verify_log(log, read_trust(alice))
    add_key(alice, read_public(mallory / "public.pem"), "mallory", ["data"])
    with pytest.raises(Untrusted, match="entry 7 is bad: it is by mallory, whose key may sign data, and no log"):
        verify_log(log, read_trust(alice))


def test_a_torn_line_is_cut_off_and_an_entry_says_so(log, alice, capsys):
    with log.open("ab") as file:
        file.write(b'{"log":"torn')
    append(log, read_private(alice), "signed", {}, {})
    assert "was torn (12 bytes)" in capsys.readouterr().out
    read = verify_log(log, read_trust(alice), latest=2)
    assert [(entry.what, entry.facts.get("bytes")) for entry, _ in read.latest] == [("recovered", 12), ("signed", None)]
    assert read.latest[0][0].facts["sha256"] == hashlib.sha256(b'{"log":"torn').hexdigest()


def test_nothing_is_appended_to_what_is_no_log(tmp_path, alice):
    (tmp_path / "text").write_text("some notes\n")
    (tmp_path / "link").symlink_to(tmp_path / "text")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"x" * 200_000)
    for name in ("text", "link", "pipe", "long", "text/log"):
        with pytest.raises(RunFailed, match="cannot write the audit log"):
            append(tmp_path / name, read_private(alice), "signed", {}, {})
    with pytest.raises(RunFailed, match="is too long"):
        append(tmp_path / "log", read_private(alice), "signed", {"a" * 70_000: ""}, {})
    assert (tmp_path / "text").read_text() == "some notes\n"
    assert (tmp_path / "log").read_bytes() == b""


WRITER = """
import sys
from pathlib import Path
from robustml.integrity.audit_log import append
from robustml.integrity.keys import read_private
key = read_private(Path(sys.argv[2]))
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    append(Path(sys.argv[1]), key, "signed", {}, {"number": number, "padding": "x" * 3000})
"""


def writer(log, key, count):
    process = subprocess.Popen([sys.executable, "-c", WRITER, log, key, str(count)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def test_two_writers_at_once_take_turns(tmp_path, alice):
    with writer(tmp_path / "log", alice, 60) as one, writer(tmp_path / "log", alice, 60) as other:
        assert (one.wait(), other.wait()) == (0, 0)
    assert verify_log(tmp_path / "log", read_trust(alice)).entries == 120


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_writer_that_is_killed_leaves_a_log_that_goes_on(tmp_path, alice, kills):
    log, trust = tmp_path / "log", read_trust(alice)
    for number in range(kills):
        with writer(log, alice, 10**6) as process:
            time.sleep(0.002 + 0.0017 * number % 0.05)
            process.send_signal(signal.SIGKILL)
        append(log, read_private(alice), "signed", {}, {})
        before = verify_log(log, trust)
    assert before.entries > kills


def test_workflows_note_what_they_did_and_what_failed(tmp_path, alice, monkeypatch):
    log = tmp_path / "logs" / "audit.jsonl"
    monkeypatch.setenv("ROBUSTML_AUDIT_LOG", str(log))
    monkeypatch.setenv("ROBUSTML_AUDIT_KEY", str(alice))

    @audits("trained", into="run", files=["weights", "absent"])
    def train(epochs, run, wrong=None):
        run.mkdir(exist_ok=True)
        (run / "weights").write_bytes(b"1")
        if wrong is not None:
            raise wrong
        return epochs

    run = tmp_path / "run"
    assert train(3, run) == 3
    with pytest.raises(RunFailed):
        train(3, run=run, wrong=RunFailed("the loss is not finite"))
    with pytest.raises(RequestError):
        train(3, run=run, wrong=RequestError("no such optimizer"))
    read = verify_audit_log(log, alice, show=2)
    first, second = (entry for entry, _ in read.latest)
    assert first.subjects == {str(run / "weights"): "sha256:" + hashlib.sha256(b"1").hexdigest()}
    assert (first.what, first.facts) == ("trained", {"into": str(run)})
    assert second.facts == {"into": str(run), "failed": "the loss is not finite"}
    # whoever writes remembers how far it has come, so that a cut is seen before the next work starts
    log.write_bytes(lines(log)[0])
    with pytest.raises(RunFailed, match=r"nothing was done: .* cut off after 1"), audited("signed"):
        pytest.fail("the work started")


@pytest.mark.parametrize(("place", "key"), [("/proc/log", "alice"), ("log", ""), ("log", "nowhere")])
def test_a_log_that_cannot_be_written_stops_the_work_before_it_starts(tmp_path, alice, monkeypatch, place, key):
    monkeypatch.setenv("ROBUSTML_AUDIT_LOG", str(tmp_path / place))
    monkeypatch.setenv("ROBUSTML_AUDIT_KEY", key and str(tmp_path / key))
    with (
        pytest.raises((RunFailed, RequestError), match=r"audit log|ROBUSTML_AUDIT_KEY|no private key"),
        audited("signed"),
    ):
        pytest.fail("the work started")
