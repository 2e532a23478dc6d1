"""Sets and models that prove where they come from: names, keys, trust, signatures, an audit log."""

from robustml.integrity.audit_log import Read, append, verify_log
from robustml.integrity.entries import Entry
from robustml.integrity.keys import fingerprint, make_keys, read_private, read_public
from robustml.integrity.names import below, check_names, files_below
from robustml.integrity.signing import Checked, check_folder, sign_folder, signer_of
from robustml.integrity.trust import Signer, Trust, Trusted, Untrusted, add_key, check_serial, own_key, read_trust

__all__ = [
    "Checked",
    "Entry",
    "Read",
    "Signer",
    "Trust",
    "Trusted",
    "Untrusted",
    "add_key",
    "append",
    "below",
    "check_folder",
    "check_names",
    "check_serial",
    "files_below",
    "fingerprint",
    "make_keys",
    "own_key",
    "read_private",
    "read_public",
    "read_trust",
    "sign_folder",
    "signer_of",
    "verify_log",
]
