"""Keys and signatures at the command line: exit status 0, 1 and 2, a line each, nothing secret anywhere."""

from __future__ import annotations

import pytest

from integration.forks import command


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.delenv("ROBUSTML_KEY_PASSPHRASE", raising=False)
    (tmp_path / "run" / "evaluations").mkdir(parents=True)
    (tmp_path / "run" / "results.json").write_text("{}")
    (tmp_path / "run" / "model.safetensors").write_bytes(b"1")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "manifest.json").write_text("{}")
    return tmp_path


def test_a_run_is_signed_verified_and_refused(place):
    assert command("keys", "new", "out=keys", "name=alice", cwd=place).status == 0
    assert command("keys", "new", "out=other", "name=bob", cwd=place).status == 0
    told = command("keys", "trust", "store=other", "key=keys/public.pem", "name=alice", "may=[data]", cwd=place)
    assert told.status == 0
    listed = command("keys", "list", "store=other", cwd=place).out.splitlines()
    assert [line.split(":")[0] for line in listed] == ["bob", "  sha256", "alice", "  sha256"]
    signed = command("model", "sign", "run=run", "key=keys", cwd=place)
    assert (signed.status, signed.err) == (0, "")
    assert "not signed: evaluations" in signed.out
    assert "robustml card run" in signed.out
    (place / "run" / "evaluations" / "later").touch()
    good = command("model", "verify", "run=run", "trust=keys", cwd=place)
    assert (good.status, good.err) == (0, "")
    assert "signed by alice" in good.out
    assert "2 files: all as signed" in good.out

    refused = command("model", "verify", "run=run", "trust=other", cwd=place)
    assert refused.status == 1
    assert "alice, whose key may sign data, and no model" in refused.err
    (place / "run" / "model.safetensors").write_bytes(b"2")
    (place / "run" / "config.yaml").write_text("{}")
    altered = command("model", "verify", "run=run", "trust=keys", cwd=place)
    assert (altered.status, altered.err) == (1, "")
    assert altered.out.splitlines()[1:3] == ["config.yaml: added", "model.safetensors: altered"]


def test_a_manifest_is_signed_under_a_passphrase_that_nobody_sees(place, monkeypatch):
    monkeypatch.setenv("ROBUSTML_KEY_PASSPHRASE", "Tr0ub4dor")
    outcomes = [
        command("keys", "new", "out=keys", cwd=place),
        command("data", "sign", "manifest=m", "key=keys", cwd=place),
    ]
    monkeypatch.delenv("ROBUSTML_KEY_PASSPHRASE")
    outcomes.append(command("data", "sign", "manifest=m", "key=keys", cwd=place))
    assert [outcome.status for outcome in outcomes] == [0, 0, 2]
    assert "set ROBUSTML_KEY_PASSPHRASE" in outcomes[2].err
    assert not any("Tr0ub4dor" in outcome.out + outcome.err for outcome in outcomes)
    assert not any(b"Tr0ub4dor" in path.read_bytes() for path in place.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["keys"], "one of new, trust, list"),
        (["keys", "new"], "out has no value yet: add out=..."),
        (["keys", "new", "out=k", "name=a/b"], "name='a/b'"),
        (["keys", "list", "store=nowhere"], "there is no nowhere/trust.json"),
        (["keys", "trust", "store=s", "key=m/manifest.json", "name=a"], "holds no public key"),
        (["data", "sign", "manifest=run", "key=k"], "robustml data manifest"),
        (["data", "sign", "manifest=m", "key=nowhere"], "robustml keys new"),
        (["model", "sign", "run=nowhere", "key=k"], "there is no"),
        (["model", "verify", "run=run", "trust=nowhere"], "there is no nowhere/trust.json"),
        (["model", "verify", "run=run"], "trust has no value yet: add trust=..."),
        (["model", "verify", "run=run", "trust=[a"], "there is no"),
    ],
)
def test_wrong_requests_end_with_2_and_write_nothing(place, words, said):
    before = sorted(place.rglob("*"))
    outcome = command(*words, cwd=place)
    assert (outcome.status, said in outcome.err, outcome.err.count("\n")) == (2, True, 1), outcome
    assert sorted(place.rglob("*")) == before


def test_the_audit_log_tells_what_commands_did(place, monkeypatch):
    assert command("keys", "new", "out=keys", "name=alice", cwd=place).status == 0
    monkeypatch.setenv("ROBUSTML_AUDIT_LOG", str(place / "audit.jsonl"))
    monkeypatch.setenv("ROBUSTML_AUDIT_KEY", str(place / "keys"))
    for words in (["model", "sign", "run=run", "key=keys"], ["model", "verify", "run=run", "trust=keys"]):
        assert command(*words, cwd=place).status == 0
    (place / "run" / "results.json").write_text("[]")
    assert command("model", "verify", "run=run", "trust=keys", cwd=place).status == 1
    verify = ["data", "audit-log", "verify", "log=audit.jsonl", "trust=keys"]
    whole = command(*verify, cwd=place)
    assert (whole.status, whole.err) == (0, "")
    assert [line.split("  ")[2] for line in whole.out.splitlines() if line[:1].isdigit()] == [
        "alice: signed",
        "alice: verified, signer alice, changed 0",
        "alice: verified, signer alice, changed 1",
    ]
    head = next(line.removeprefix("head: ") for line in whole.out.splitlines() if line.startswith("head: "))
    assert command(*verify, f"head={head}", "show=0", cwd=place).status == 0
    lines = (place / "audit.jsonl").read_text().splitlines(keepends=True)
    (place / "audit.jsonl").write_text("".join(lines[:2]))
    cut = command(*verify, cwd=place)
    assert (cut.status, "cut off after 2" in cut.err) == (1, True)
    refused = command("model", "sign", "run=run", "key=keys", cwd=place)
    assert (refused.status, "nothing was done" in refused.err) == (1, True)
    for wrong in (["log=nowhere"], ["head=abc"], ["trust=nowhere"]):
        assert command(*verify, *wrong, cwd=place).status == 2
