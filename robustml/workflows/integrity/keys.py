"""Keys of one's own, and whose are believed."""

from __future__ import annotations

import getpass
import os
from collections.abc import Collection
from pathlib import Path

from robustml.errors import RequestError, pasteable
from robustml.integrity.keys import PASSPHRASE, PRIVATE, PUBLIC, make_keys, read_public
from robustml.integrity.trust import EVERYTHING, TRUST, Signer, add_key, check_name, own_key, read_trust
from robustml.say import say


def new_keys(out: Path, name: str | None = None, *, ask: bool = False) -> Signer:
    """Make a key that signs, and a trust store that believes it in everything.

    Args:
        out: gets private.pem, which only its owner can read, public.pem and trust.json; made if absent.
        name: whose it is; the user's by default.
        ask: ask for a passphrase on the terminal; otherwise there is one where ROBUSTML_KEY_PASSPHRASE holds it.

    Returns:
        The name and the fingerprint.

    Raises:
        RequestError: a key is there already; the name is none, or taken; there is no terminal to ask on.
        RunFailed: the folder cannot be written.
    """
    name = name or _user()
    check_name(name)
    if (out / TRUST).exists() and any(key.signer.name == name for key in read_trust(out).keys):
        raise RequestError(f"{out} knows {name!r} already; name another out=, or another name=")
    signer = own_key(out, make_keys(out, ask=ask), name)
    locked = "under a passphrase" if ask or os.environ.get(PASSPHRASE) else f"no passphrase; {PASSPHRASE} gives one"
    say(f"private key: {out / PRIVATE} (readable by its owner alone; {locked})")
    say(f"public key: {out / PUBLIC}\nfingerprint: {signer.fingerprint}")
    others = pasteable("keys", "trust", "store=STORE", f"key={PUBLIC}", f"name={name}")
    say(f"trust={out} believes {name} from now on; others, whom you give {PUBLIC}, do after:\n  {others}")
    return signer


def trust_key(store: Path, key: Path, name: str, may: Collection[str] = EVERYTHING) -> Signer:
    """Believe what somebody signs from now on.

    Args:
        store: the trust store; made if absent.
        key: their public key, in PEM.
        name: what to call them.
        may: what they may sign: data, model, log.

    Returns:
        The name and the fingerprint, to be compared with what they say it is.

    Raises:
        RequestError: no such key; the name or the key is there already, or `may` holds what there is none of.
        RunFailed: the store cannot be written.
    """
    signer = add_key(store, read_public(key), name, may)
    say(f"trust={store} believes {name} in {', '.join(may)}")
    say(f"fingerprint: {signer.fingerprint} (ask {name} whether it is theirs)")
    return signer


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no entry
        return "owner"
