"""The format of OpenSSF Model Signing v1.0: digests in an in-toto statement, in a DSSE envelope, in a Sigstore bundle.

Sources: https://github.com/ossf/model-signing-spec (v1.0), https://github.com/in-toto/attestation (Statement v1),
https://github.com/secure-systems-lab/dsse (v1.0.0), Sigstore's bundle v0.3 with the hint of a public key. Read more
narrowly than it is written: SHA-256 over whole files, one signature, no key of a JSON object twice. Bundles with
certificates of Sigstore are refused, since whom they name cannot be known without a network.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from robustml.errors import RequestError
from robustml.integrity.keys import pem_of, sign, verifies
from robustml.integrity.names import check_names
from robustml.integrity.strict_json import strict_json
from robustml.results.reading import problem_of

if TYPE_CHECKING:
    from robustml.integrity.keys import Private, Public

MEDIA_TYPE: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Literal["application/vnd.in-toto+json"] = "application/vnd.in-toto+json"
STATEMENT_TYPE: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Literal["https://model_signing/signature/v1.0"] = "https://model_signing/signature/v1.0"
# What a model that is one file is called in its own bundle.
ITSELF = "."

Content = TypeVar("Content", bound=BaseModel)
Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Loose(BaseModel):
    """Of what nothing is believed, or where the specification lets newer versions add fields."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _PublicKey(_Strict):
    hint: str = ""


class _Material(_Strict):
    publicKey: _PublicKey  # noqa: N815  # as the bundle has it
    tlogEntries: list[Any] = []  # noqa: N815
    timestampVerificationData: Any = None  # noqa: N815


class _Signature(_Strict):
    sig: str
    keyid: str = ""


class _Envelope(_Strict):
    payload: str
    payloadType: Literal["application/vnd.in-toto+json"]  # noqa: N815
    signatures: Annotated[list[_Signature], Field(min_length=1, max_length=1)]


class _Bundle(_Strict):
    mediaType: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]  # noqa: N815
    verificationMaterial: _Material  # noqa: N815
    dsseEnvelope: _Envelope  # noqa: N815


class _Digest(_Strict):
    sha256: Hex


class _Subject(_Strict):
    name: str
    digest: _Digest


class _Resource(_Strict):
    name: str
    algorithm: Literal["sha256"]
    digest: Hex


class _Serialization(_Strict):
    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: bool = False
    ignore_paths: list[str] = []


class _Predicate(_Loose):
    serialization: _Serialization
    resources: list[_Resource]


class _Statement(_Strict):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[list[_Subject], Field(min_length=1, max_length=1)]
    predicateType: Literal["https://model_signing/signature/v1.0"]  # noqa: N815
    predicate: _Predicate


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read; nothing of it is known to be true yet.

    Attributes:
        payload: the bytes that were signed.
        signature: over their pre-authentication encoding, in DER.
        hint: of which key it claims to be, the SHA-256 of its PEM in hex; "" where it does not say.
    """

    payload: bytes
    signature: bytes
    hint: str

    def signed_by(self, public: Public) -> bool:
        """Whether the payload was signed with the other half of a key."""
        return verifies(public, self.signature, _encoded(self.payload))


@dataclass(frozen=True)
class Statement:
    """What was signed.

    Attributes:
        name: what the folder or file was called.
        digests: for each file below it, or `ITSELF`, its SHA-256 in hex.
        ignored: files and folders that were not signed.
    """

    name: str
    digests: dict[str, str]
    ignored: frozenset[str]


def hint_of(public: Public) -> str:
    """By what a bundle names a public key: the SHA-256 of its PEM, in hex."""
    return hashlib.sha256(pem_of(public)).hexdigest()


def write_bundle(name: str, digests: Mapping[str, str], ignored: Collection[str], private: Private) -> str:
    """The bundle over a folder, as JSON.

    Args:
        name: of the folder.
        digests: for each file its SHA-256 in hex.
        ignored: files and folders in it that are not signed.
        private: signs.
    """
    names = sorted(digests, key=lambda each: each.split("/"))
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root([digests[each] for each in names])}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": sorted(ignored),
            },
            "resources": [{"name": each, "algorithm": "sha256", "digest": digests[each]} for each in names],
        },
    }
    payload = json.dumps(statement, indent=2).encode()
    signature = base64.b64encode(sign(private, _encoded(payload))).decode()
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint_of(private.public_key())}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": signature, "keyid": ""}],
        },
    }
    return json.dumps(bundle) + "\n"


def read_bundle(text: str, source: str) -> Bundle:
    """The parts of a bundle, none of which is believed.

    Raises:
        RequestError: it is none, or of a kind that is not read; the line begins with `source`.
    """
    bundle = _checked(_Bundle, text, source)
    envelope = bundle.dsseEnvelope
    try:
        payload, signature = (_decoded(text) for text in (envelope.payload, envelope.signatures[0].sig))
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{source} is not valid: its payload or signature is not Base64") from error
    return Bundle(payload, signature, bundle.verificationMaterial.publicKey.hint)


def read_statement(payload: bytes, source: str) -> Statement:
    """What the payload of a bundle says; to be asked for the very bytes whose signature was verified.

    Raises:
        RequestError: it is no such statement, contradicts itself, or names hostile files; begins with `source`.
    """
    statement = _checked(_Statement, payload, source)
    resources, ignored = statement.predicate.resources, statement.predicate.serialization.ignore_paths
    names = [resource.name for resource in resources]
    if names != [ITSELF]:
        check_names(names, source)
    if _root([resource.digest for resource in resources]) != statement.subject[0].digest.sha256:
        raise RequestError(f"{source} contradicts itself: the digest of its subject is not that of its files")
    digests = {resource.name: resource.digest for resource in resources}
    return Statement(statement.subject[0].name, digests, frozenset(ignored))


def _checked(model: type[Content], text: str | bytes, source: str) -> Content:
    try:
        return model.model_validate(strict_json(text))
    except ValidationError as error:
        raise RequestError(f"{source} is not valid: {problem_of(error)}") from error
    except ValueError as error:
        raise RequestError(f"{source} is not valid: {' '.join(str(error).split())}") from error


def _decoded(text: str) -> bytes:
    """Base64 in the one way that there is to write it: bits that are dropped could be anything."""
    content = base64.b64decode(text, validate=True)
    if base64.b64encode(content) != text.encode():
        raise ValueError("bits are left over")
    return content


def _root(digests: Collection[str]) -> str:
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def _encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
