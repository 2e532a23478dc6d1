"""Signatures over folders: what was done to one is named, and nothing but the signer's own bytes passes."""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
import sys
import time

import pytest

from robustml.errors import RequestError
from robustml.integrity.bundle import read_bundle
from robustml.integrity.keys import read_private, read_public, sign
from robustml.integrity.signing import SIGNATURE, check_folder, sign_folder, signer_of
from robustml.integrity.trust import Untrusted, add_key, read_trust


def test_what_became_of_a_folder_is_named(folder, alice):
    (folder / "logs").mkdir()
    sign_folder(folder, alice, ignore=["logs"])
    trust = read_trust(alice)
    assert signer_of(folder, trust, "data").name == "alice"
    (folder / "logs" / "later").write_text("not signed")
    (folder / "manifest.json").write_text("{ }")
    (folder / "in" / "records.parquet").rename(folder / "in" / "Records.parquet")
    (folder / "link").symlink_to("/etc/passwd")
    checked = check_folder(folder, trust, "data")
    assert checked.changes == {
        "in/Records.parquet": "added",
        "in/records.parquet": "missing",
        "link": "refused: it is a link",
        "manifest.json": "altered",
    }
    assert checked.ignored == ("logs",)
    with pytest.raises(Untrusted, match=r"not as alice signed it: in/Records.parquet: added, and 3 more"):
        signer_of(folder, trust, "data")


def test_a_folder_may_be_renamed_and_a_file_has_its_bundle_beside_it(folder, alice, tmp_path):
    trust = read_trust(alice)
    sign_folder(folder, alice)
    assert signer_of(folder.rename(tmp_path / "another"), trust, "model").name == "alice"
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"1")
    assert sign_folder(weights, alice) == tmp_path / "w.safetensors.sigstore.json"
    assert check_folder(weights, trust, "model").changes == {}
    weights.write_bytes(b"2")
    assert check_folder(weights, trust, "model").changes == {"w.safetensors": "altered"}


def test_strangers_and_keys_that_may_not_are_refused(folder, alice, mallory, tmp_path):
    with pytest.raises(Untrusted, match="there is no signature"):
        signer_of(folder, read_trust(alice), "data")
    sign_folder(folder, mallory)
    with pytest.raises(Untrusted, match=r"by a stranger; .* trusts alice"):
        signer_of(folder, read_trust(alice), "data")
    add_key(tmp_path / "store", read_public(mallory / "public.pem"), "mallory", ["model"])
    assert signer_of(folder, read_trust(tmp_path / "store"), "model").name == "mallory"
    with pytest.raises(Untrusted, match="mallory, whose key may sign model, and no data"):
        signer_of(folder, read_trust(tmp_path / "store"), "data")


def test_what_cannot_be_signed_is_refused_and_writes_nothing(folder, alice, tmp_path):
    (folder / "link").symlink_to("manifest.json")
    with pytest.raises(RequestError, match="link cannot be signed: it is a link"):
        sign_folder(folder, alice)
    (folder / "link").unlink()
    (folder / "Manifest.json").touch()
    with pytest.raises(RequestError, match="in case or Unicode form only"):
        sign_folder(folder, alice)
    (tmp_path / "empty").mkdir()
    for place in ("empty", "absent"):
        with pytest.raises(RequestError, match=r"holds no file|there is no"):
            sign_folder(tmp_path / place, alice)
    assert not (folder / SIGNATURE).exists()


def statement_of(folder):
    return json.loads(read_bundle((folder / SIGNATURE).read_text(), "it").payload)


def put(folder, payload, key=None, **changes):
    """Put a payload into the bundle of a folder; signed anew where a key is given, as a signer gone mad would."""
    bundle = json.loads((folder / SIGNATURE).read_text())
    envelope = bundle["dsseEnvelope"]
    envelope["payload"] = base64.b64encode(payload).decode()
    if key is not None:
        head = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" "
        envelope["signatures"][0]["sig"] = base64.b64encode(sign(read_private(key), head + payload)).decode()
    envelope.update(changes)
    (folder / SIGNATURE).write_text(json.dumps(bundle))


def refused(folder, alice, match):
    with pytest.raises(Untrusted, match=match):
        check_folder(folder, read_trust(alice), "data")


def test_a_bundle_that_was_edited_is_refused(folder, alice, mallory):
    sign_folder(folder, alice)
    payload = json.dumps(statement_of(folder), indent=2).encode()
    whole = json.loads((folder / SIGNATURE).read_text())

    # the same statement in other bytes, and another one
    put(folder, payload + b" ")
    refused(folder, alice, "it claims to be by alice, whose key says no")
    put(folder, payload.replace(b"sha256", b"sha512"))
    refused(folder, alice, "forged or damaged")
    put(folder, payload, mallory)  # the hint is still that of alice
    refused(folder, alice, "forged or damaged")
    put(folder, payload, alice, payloadType="application/json")
    refused(folder, alice, "payloadType")
    for signatures in ([], whole["dsseEnvelope"]["signatures"] * 2, [{"sig": "!"}], [{"sig": ""}]):
        (folder / SIGNATURE).write_text(json.dumps(whole))
        put(folder, payload, alice, signatures=signatures)
        refused(folder, alice, r"signatures|not Base64|forged")
    text = json.dumps(whole)
    for edited in (
        text.replace('"payloadType"', '"payload": "e30=", "payloadType"'),  # a key twice
        text.replace("bundle.v0.3", "bundle.v0.1"),
        text.replace('"publicKey"', '"x509CertificateChain"'),
        text[:-20],
        "[]",
        "[" * 100_000,
        '{"a": ' * 100_000,
    ):
        (folder / SIGNATURE).write_text(edited)
        refused(folder, alice, "the signature is refused")
    (folder / SIGNATURE).write_text(json.dumps(whole))
    assert signer_of(folder, read_trust(alice), "data").name == "alice"


def test_a_trusted_key_does_not_make_nonsense_valid(folder, alice):
    """What a signer's own key signed is still read narrowly."""
    sign_folder(folder, alice)
    good = statement_of(folder)

    def with_(**changes):
        return json.dumps({**good, **changes}).encode()

    resources = good["predicate"]["resources"]
    cases = [
        (with_(predicateType="https://model_signing/Digests/v0.1"), "predicateType"),
        (with_(_type="https://in-toto.io/Statement/v0.1"), "_type"),
        (with_(subject=[]), "subject"),
        (with_(subject=good["subject"] * 2), "subject"),
        (with_(subject=[{"name": "m", "digest": {"sha256": "0" * 64}}]), "contradicts itself"),
        (with_(predicate={**good["predicate"], "resources": resources[:1]}), "contradicts itself"),
        (json.dumps(good).replace('"_type"', '"_type": 1, "_type"').encode(), "stands there twice"),
        (b"\xff", "utf-8"),
        (json.dumps(good).replace("files", "shards").encode(), "method"),
        (json.dumps(good).replace("in/records", "../records").encode(), "names '../records"),
        (json.dumps(good).replace("in/records", "/etc/records").encode(), "it is absolute"),
        (json.dumps(good).replace("in/records.parquet", "Manifest.json").encode(), "case or Unicode form"),
        (json.dumps(good).replace("in/records.parquet", "manifest.json").encode(), "stands there twice"),
    ]
    for payload, said in cases:
        put(folder, payload, alice)
        refused(folder, alice, said)
    put(folder, json.dumps(good).encode(), alice)
    assert signer_of(folder, read_trust(alice), "data").name == "alice"


def test_a_signature_of_another_folder_is_none_of_this_one(folder, alice, tmp_path):
    sign_folder(folder, alice)
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "manifest.json").write_text("[]")
    sign_folder(other, alice)
    shutil.copy(other / SIGNATURE, folder / SIGNATURE)
    assert check_folder(folder, read_trust(alice), "data").changes == {"manifest.json": "altered"}
    (folder / SIGNATURE).unlink()
    (folder / SIGNATURE).symlink_to(other / SIGNATURE)
    refused(folder, alice, "it is a link")


SIGNER = """
import sys
from pathlib import Path
from robustml.integrity.signing import sign_folder
print("ready", flush=True)
while True:
    sign_folder(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_signer_that_is_killed_leaves_a_signature_that_holds(folder, alice, kills):
    trust = read_trust(alice)
    sign_folder(folder, alice)
    for number in range(kills):
        with subprocess.Popen([sys.executable, "-c", SIGNER, folder, alice], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.002 + 0.0013 * number % 0.04)
            process.kill()
        assert signer_of(folder, trust, "data").name == "alice"


def test_every_bit_of_a_signature_counts(folder, alice):
    """Also those that nobody signs: a key named beside the signature, letters of Base64 whose last bits are dropped."""
    bundle = sign_folder(folder, alice)
    content, trust = bundle.read_bytes(), read_trust(alice)
    places = [content.index(word) + len(word) for word in (b'"hint": "', b'"hi', b"tlogE", b'"sig": "')]
    places += [content.index(end) - 1 for end in (b'=", "keyid"', b'", "payloadType"') if end in content]
    draw = random.Random(0)
    for place in [*places, *(draw.randrange(len(content)) for _ in range(200))]:
        for bit in range(8) if place in places else [draw.randrange(8)]:
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            bundle.write_bytes(changed)
            with pytest.raises(Untrusted):
                signer_of(folder, trust, "model")
    bundle.write_bytes(content)
    signer_of(folder, trust, "model")
