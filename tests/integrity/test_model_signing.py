"""Our bundles and those of the real `model_signing`, each verified by the other, and refused by it once tampered with.

It runs in an environment of its own, which is made once a session: it pins packages that ours need otherwise.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from integration.forks import command

from robustml.integrity.signing import SIGNATURE, check_folder, sign_folder
from robustml.integrity.trust import Untrusted, read_trust

pytestmark = pytest.mark.slow
PACKAGES = ("model_signing==1.1.1", "sigstore==4.5.1", "pyOpenSSL")


@pytest.fixture(scope="session")
def model_signing(tmp_path_factory):
    """Its command line, as a list of words."""
    side = tmp_path_factory.mktemp("side") / "environment"
    uv = Path(sys.executable).with_name("uv")
    for words in (
        ["venv", "-q", "--python", sys.executable, side],
        ["pip", "install", "-q", "--python", side, *PACKAGES],
    ):
        made = subprocess.run([uv, *words], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no environment for model_signing (is there a package index?): {made.stderr.strip()[-200:]}")
    return [side / "bin" / "python", "-m", "model_signing"]


@pytest.fixture
def theirs(model_signing, alice):
    """Whether it verifies a path against a bundle with the key of alice; and let it sign."""

    def run(*words):
        return subprocess.run([*model_signing, *words], capture_output=True, text=True, check=False).returncode == 0

    class Theirs:
        def verifies(self, path, bundle, key=alice):
            return run("verify", "key", path, "--signature", bundle, "--public_key", key / "public.pem")

        def signs(self, path, bundle, *options):
            return run("sign", "key", path, "--signature", bundle, "--private_key", alice / "private.pem", *options)

    return Theirs()


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory):
    """A real run, its card, and an evaluation that came later."""
    place = tmp_path_factory.mktemp("run")
    assert command("train", "debug=fast", "hydra.run.dir=run", cwd=place).status == 0
    assert command("card", "run", cwd=place).status == 0
    assert command("keys", "new", "out=keys", "name=alice", cwd=place).status == 0
    assert command("model", "sign", "run=run", "key=keys", cwd=place).status == 0
    (place / "run" / "evaluations" / "later").mkdir(parents=True)
    (place / "run" / "evaluations" / "later" / "results.json").write_text("{}")
    return place


def tamperings(folder):
    """Each is done, looked at, and undone."""
    file = next(path for path in sorted(folder.rglob("*.json")) if path.name != SIGNATURE)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    yield "altered"
    file.unlink()
    yield "missing"
    file.write_bytes(content)
    (folder / "more").touch()
    yield "added"
    (folder / "more").unlink()
    (folder / "more").symlink_to(file)
    yield "refused: it is a link"
    (folder / "more").unlink()


def test_it_verifies_our_manifests_and_refuses_tampered_ones(theirs, folder, alice, mallory):
    bundle = sign_folder(folder, alice)
    assert theirs.verifies(folder, bundle)
    assert not theirs.verifies(folder, bundle, mallory)
    for what in tamperings(folder):
        assert not theirs.verifies(folder, bundle), what
    assert theirs.verifies(folder, bundle)
    good = json.loads(bundle.read_text())
    for part in ("payload", "signatures"):
        forged = json.loads(bundle.read_text())
        envelope = forged["dsseEnvelope"]
        place = envelope if part == "payload" else envelope["signatures"][0]
        key = "payload" if part == "payload" else "sig"
        place[key] = place[key][:20] + ("A" if place[key][20] != "A" else "B") + place[key][21:]
        bundle.write_text(json.dumps(forged))
        assert not theirs.verifies(folder, bundle)
        with pytest.raises(Untrusted):
            check_folder(folder, read_trust(alice), "data")
    bundle.write_text(json.dumps(good))
    assert theirs.verifies(folder, bundle)


def test_it_verifies_our_runs_and_passes_over_what_later_commands_wrote(theirs, run_directory):
    run, keys = run_directory / "run", run_directory / "keys"
    assert theirs.verifies(run, run / SIGNATURE, keys)
    for what in tamperings(run):
        assert not theirs.verifies(run, run / SIGNATURE, keys), what
    assert theirs.verifies(run, run / SIGNATURE, keys)


def test_we_verify_its_bundles_and_refuse_tampered_ones(theirs, folder, alice, mallory, run_directory, tmp_path):
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("passed over by default")
    (folder / "later").mkdir()
    (folder / "later" / "log").write_text("passed over")
    bundle, trust = folder / SIGNATURE, read_trust(alice)
    assert theirs.signs(folder, bundle, "--ignore-paths", folder / "later")
    checked = check_folder(folder, trust, "data")
    assert (checked.signer.name, checked.changes, checked.ignored) == ("alice", {}, (".git", "later"))
    for what in tamperings(folder):
        assert list(check_folder(folder, trust, "data").changes.values()) == [what]
    assert check_folder(folder, trust, "data").changes == {}
    with pytest.raises(Untrusted, match="by a stranger"):
        check_folder(folder, read_trust(mallory), "data")
    run = shutil.copytree(run_directory / "run", tmp_path / "run")
    assert theirs.signs(run, run / SIGNATURE)
    assert check_folder(run, trust, "model").changes == {}


def test_single_files_go_both_ways(theirs, alice, tmp_path):
    weights, trust = tmp_path / "w.safetensors", read_trust(alice)
    weights.write_bytes(bytes(1000))
    bundle = sign_folder(weights, alice)
    assert theirs.verifies(weights, bundle)
    assert theirs.signs(weights, bundle)
    assert check_folder(weights, trust, "model").changes == {}
    weights.write_bytes(bytes(1001))
    assert not theirs.verifies(weights, bundle)
    assert check_folder(weights, trust, "model").changes == {"w.safetensors": "altered"}


def test_what_it_signs_in_ways_that_we_do_not_read_is_refused_in_a_line(folder, alice, model_signing):
    """Other hashes and shards are allowed by the format: such a bundle is refused, and never half believed."""
    script = (
        "import sys, model_signing as m; config = m.signing.Config()"
        ".use_elliptic_key_signer(private_key=sys.argv[2])"
        ".set_hashing_config(m.hashing.Config().{}); config.sign(sys.argv[1], sys.argv[3])"
    )
    for hashing in ("use_file_serialization(hashing_algorithm='blake2')", "use_shard_serialization(shard_size=64)"):
        words = [script.format(hashing), folder, alice / "private.pem", folder / SIGNATURE]
        subprocess.run([model_signing[0], "-c", *words], check=True, capture_output=True)
        with pytest.raises(Untrusted, match="the signature is refused"):
            check_folder(folder, read_trust(alice), "data")
