"""Damages bundles, one part at a time, the rest left as it was. Verifies nothing."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

Bundle = dict[str, Any]


def flip(text: str, position: int = -1) -> str:
    """Change one byte of a base64 text."""
    raw = bytearray(base64.b64decode(text))
    raw[position] ^= 1
    return base64.b64encode(raw).decode()


def _entry(bundle: Bundle) -> Bundle:
    found = bundle["verificationMaterial"]["tlogEntries"][0]
    assert isinstance(found, dict)
    return found


def _signature(bundle: Bundle) -> None:
    if "dsseEnvelope" in bundle:
        one = bundle["dsseEnvelope"]["signatures"][0]
        one["sig"] = flip(one["sig"])
    else:
        bundle["messageSignature"]["signature"] = flip(bundle["messageSignature"]["signature"])


def _payload(bundle: Bundle) -> None:
    """Another predicate under the same signature."""
    envelope = bundle["dsseEnvelope"]
    raw = base64.b64decode(envelope["payload"])
    changed = raw.replace(b"honest", b"forged")
    assert changed != raw
    envelope["payload"] = base64.b64encode(changed).decode()


def _certificate(bundle: Bundle) -> None:
    # The last byte is one of the CA's signature.
    one = leaf(bundle)
    one["rawBytes"] = flip(one["rawBytes"])


def leaf(bundle: Bundle) -> Bundle:
    """Return the object that holds the signer's certificate, whichever form the bundle has."""
    material = bundle["verificationMaterial"]
    found = material.get("certificate") or material["x509CertificateChain"]["certificates"][0]
    assert isinstance(found, dict)
    return found


def _body(bundle: Bundle) -> None:
    """Another digest in the logged entry."""
    entry = _entry(bundle)
    body = json.loads(base64.b64decode(entry["canonicalizedBody"]))
    _change_digest(body["spec"])
    raw = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
    entry["canonicalizedBody"] = base64.b64encode(raw).decode()


def _change_digest(spec: Bundle) -> None:
    if "hashedRekordV002" in spec:
        data = spec["hashedRekordV002"]["data"]
        data["digest"] = flip(data["digest"])
        return
    holder = spec["payloadHash"] if "payloadHash" in spec else spec["data"]["hash"]
    digits = holder["value"]
    holder["value"] = digits[:-1] + ("0" if digits[-1] != "0" else "1")


def _proof(bundle: Bundle) -> None:
    proof = _entry(bundle)["inclusionProof"]
    assert proof["hashes"], "the tree has to have more than one leaf"
    proof["hashes"][0] = flip(proof["hashes"][0])


def _root(bundle: Bundle) -> None:
    proof = _entry(bundle)["inclusionProof"]
    proof["rootHash"] = flip(proof["rootHash"])


def _checkpoint(bundle: Bundle) -> None:
    """Another signature under the checkpoint, of the same key by its hint."""
    holder = _entry(bundle)["inclusionProof"]["checkpoint"]
    note, _, line = holder["envelope"].rstrip("\n").rpartition("\n")
    words = line.split(" ")
    words[-1] = flip(words[-1])
    holder["envelope"] = f"{note}\n{' '.join(words)}\n"


def _promise(bundle: Bundle) -> None:
    one = _entry(bundle)["inclusionPromise"]
    one["signedEntryTimestamp"] = flip(one["signedEntryTimestamp"])


def _integrated_time(bundle: Bundle) -> None:
    """A later second, still within the certificate's life."""
    entry = _entry(bundle)
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 1)


def _timestamp(bundle: Bundle) -> None:
    data = bundle["verificationMaterial"]["timestampVerificationData"]
    one = data["rfc3161Timestamps"][0]
    one["signedTimestamp"] = flip(one["signedTimestamp"])


_DAMAGES: Mapping[str, Callable[[Bundle], None]] = {
    "signature": _signature,
    "payload": _payload,
    "certificate": _certificate,
    "entry body": _body,
    "proof": _proof,
    "root hash": _root,
    "checkpoint": _checkpoint,
    "promise": _promise,
    "integrated time": _integrated_time,
    "timestamp": _timestamp,
}


def damages(bundle: Bundle) -> dict[str, Bundle]:
    """Return a damaged copy of the bundle for every part it has."""
    made: dict[str, Bundle] = {}
    material = bundle["verificationMaterial"]
    has_promise = "inclusionPromise" in _entry(bundle) and _entry(bundle)["inclusionPromise"]
    absent = {
        "payload": "dsseEnvelope" not in bundle,
        "certificate": "publicKey" in material,
        "promise": not has_promise,
        "integrated time": not has_promise,
        "timestamp": not (material.get("timestampVerificationData") or {}).get("rfc3161Timestamps"),
    }
    for name, damage in _DAMAGES.items():
        if not absent.get(name):
            made[name] = copy.deepcopy(bundle)
            damage(made[name])
    return made
