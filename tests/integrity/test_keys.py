"""Keys and trust stores: OpenSSL's command line as the oracle of the files, refusals in one line each."""

from __future__ import annotations

import json
import os
import stat
import subprocess

import pytest

from robustml.errors import RequestError
from robustml.integrity import keys as module
from robustml.integrity.keys import PASSPHRASE, fingerprint, make_keys, read_private, read_public, sign, verifies
from robustml.integrity.seen import SEEN
from robustml.integrity.trust import TRUST, Untrusted, add_key, check_serial, read_trust


def openssl(*words, stdin=b""):
    return subprocess.run(["openssl", *map(str, words)], input=stdin, capture_output=True, check=False)


def test_keys_are_p256_and_private_whatever_the_umask(tmp_path):
    old = os.umask(0)
    try:
        make_keys(tmp_path / "k")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "k" / "private.pem").stat().st_mode) == 0o600
    shown = openssl("pkey", "-in", tmp_path / "k" / "private.pem", "-noout", "-text")
    assert b"NIST CURVE: P-256" in shown.stdout
    der = openssl("pkey", "-pubin", "-in", tmp_path / "k" / "public.pem", "-outform", "DER").stdout
    digest = openssl("dgst", "-sha256", "-r", stdin=der).stdout.split()[0].decode()
    assert fingerprint(read_public(tmp_path / "k" / "public.pem")) == f"sha256:{digest}"


def test_openssl_verifies_what_we_sign_and_we_what_it_signs(tmp_path):
    public = make_keys(tmp_path)
    (tmp_path / "text").write_bytes(b"text")
    (tmp_path / "ours").write_bytes(sign(read_private(tmp_path), b"text"))
    checked = (
        "dgst",
        "-sha256",
        "-verify",
        tmp_path / "public.pem",
        "-signature",
        tmp_path / "ours",
        tmp_path / "text",
    )
    assert openssl(*checked).returncode == 0
    theirs = openssl("dgst", "-sha256", "-sign", tmp_path / "private.pem", tmp_path / "text").stdout
    assert verifies(public, theirs, b"text")
    assert not verifies(public, theirs, b"Text")
    assert not verifies(public, b"", b"text")


def test_a_key_is_never_written_over(tmp_path):
    make_keys(tmp_path)
    before = (tmp_path / "private.pem").read_bytes()
    with pytest.raises(RequestError, match="no key is written over"):
        make_keys(tmp_path)
    assert (tmp_path / "private.pem").read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_can_use_is_refused(tmp_path, mode):
    make_keys(tmp_path)
    (tmp_path / "private.pem").chmod(mode)
    with pytest.raises(RequestError, match="chmod 600"):
        read_private(tmp_path)


def test_a_passphrase_comes_from_the_environment_or_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSPHRASE, "of alice")
    public = make_keys(tmp_path)
    assert b"ENCRYPTED" in (tmp_path / "private.pem").read_bytes()
    assert read_private(tmp_path).public_key() == public
    monkeypatch.setenv(PASSPHRASE, "another")
    with pytest.raises(RequestError, match="passphrase does not open") as wrong:
        read_private(tmp_path)
    assert "another" not in str(wrong.value)
    monkeypatch.delenv(PASSPHRASE)
    with pytest.raises(RequestError, match="no terminal to ask on"):
        read_private(tmp_path)
    monkeypatch.setattr(module, "_ask", lambda what: b"of alice")
    assert read_private(tmp_path).public_key() == public


def test_a_passphrase_may_hold_any_bytes_that_openssl_takes(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSPHRASE, "\udcff\udcfe p\u00e4ss")
    make_keys(tmp_path / "k")
    assert read_private(tmp_path / "k")
    monkeypatch.setenv(PASSPHRASE, "x" * 1024)
    with pytest.raises(RequestError, match="1024 bytes; expected at most 1023"):
        make_keys(tmp_path / "l")


def test_keys_of_another_kind_and_none_at_all_are_refused(tmp_path):
    kinds = {"rsa": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "ed": ["ED25519"]}
    kinds["k1"] = ["EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"]
    for name, words in kinds.items():
        openssl("genpkey", "-algorithm", *words, "-out", tmp_path / name)
        (tmp_path / name).chmod(0o600)
        (tmp_path / f"{name}.pub").write_bytes(openssl("pkey", "-in", tmp_path / name, "-pubout").stdout)
        with pytest.raises(RequestError, match="of another kind"):
            read_private(tmp_path / name)
        with pytest.raises(RequestError, match="of another kind"):
            read_public(tmp_path / f"{name}.pub")
    with pytest.raises(RequestError, match="robustml keys new"):
        read_private(tmp_path / "absent")
    with pytest.raises(RequestError, match="holds a private key"):
        read_public(tmp_path / "rsa")


def test_a_store_knows_names_and_what_each_may_sign(tmp_path, alice, mallory):
    add_key(tmp_path / "store", read_public(alice / "public.pem"), "alice", ["model", "data"])
    add_key(tmp_path / "store", read_public(mallory / "public.pem"), "build server 2", ["log"])
    store = read_trust(tmp_path / "store")
    assert {key.signer.name: key.may for key in store.keys} == {"alice": ("data", "model"), "build server 2": ("log",)}
    for name, key, said in [
        ("alice", mallory, "knows 'alice'"),
        ("bob", alice, "knows 'alice'"),
        ("a\nb", alice, "name="),
    ]:
        with pytest.raises(RequestError, match=said):
            add_key(tmp_path / "store", read_public(key / "public.pem"), name, ["data"])
    with pytest.raises(RequestError, match="expected some of data, model, log"):
        add_key(tmp_path / "store", read_public(alice / "public.pem"), "carol", ["everything"])


def test_a_store_that_was_tampered_with_is_refused(alice, mallory):
    entry = json.loads((alice / TRUST).read_text())
    (alice / "public.pem").write_bytes((mallory / "public.pem").read_bytes())
    with pytest.raises(RequestError, match=r"is not the key that trust.json names"):
        read_trust(alice)
    for path in ("../mallory/public.pem", "/etc/passwd", "absent.pem"):
        entry["keys"][0]["key"] = path
        (alice / TRUST).write_text(json.dumps(entry))
        with pytest.raises(RequestError, match=r"refused|cannot read"):
            read_trust(alice)
    (mallory / TRUST).chmod(0o666)
    with pytest.raises(RequestError, match="everyone can write it"):
        read_trust(mallory)


def test_an_older_serial_is_a_replay(alice, mallory):
    store = read_trust(alice)
    for serial in (1, 3, 3, 4):
        check_serial(store, "mnist", serial)
    with pytest.raises(Untrusted, match=r"replay: this is number 3 .* has seen number 4"):
        check_serial(store, "mnist", 3)
    check_serial(store, "another", 0)
    check_serial(read_trust(mallory), "mnist", 1)


def test_a_store_that_cannot_be_written_is_said(alice, capsys):
    (alice / ".lock").unlink()
    (alice / ".lock").mkdir()
    check_serial(read_trust(alice), "mnist", 1)
    assert "not remembered: cannot write" in capsys.readouterr().out
    assert not (alice / SEEN).exists()
