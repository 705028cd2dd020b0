"""Mutants that change nothing that anybody could see, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping

_LISTED = (
    (
        (
            "keylessd.core.certificate._signer_of: condition: not isinstance(extension.value, "
            "x509.UnrecognizedExtension) in name is None or not isinstance(extension.value, "
            "x509.UnrecognizedExtension)"
        ),
        "the library recognizes none of Fulcio's extensions",
    ),
    (
        ("keylessd.core.ed25519ph.verify_prehashed: boundary: scalar >= _ORDER, the first sign"),
        "the only signature that would tell cannot be made",
    ),
    (
        (
            "keylessd.core.ed25519ph.verify_prehashed: condition: len(digest) != DIGEST_BYTES "
            "in len(signature) != SIGNATURE_BYTES or len(digest) != DIGEST_BYTES"
        ),
        "a digest by SHA-512 has no other length",
    ),
    (
        (
            "keylessd.core.inclusion._integrated_time: condition: seconds is None in seconds "
            "is None or seconds <= 0"
        ),
        "a promise without a time has no payload, which was refused before",
    ),
    (
        (
            "keylessd.core.inclusion._proof_of: condition: generation != REKOR_V2 in "
            "generation != REKOR_V2 and entry.promise is not None"
        ),
        "a promise of Rekor v2 was refused before",
    ),
    (
        "keylessd.core.legacy._chain_of: comparison: _BEGIN not in raw is True",
        "the dashes of PEM are no base64, so there is nothing to unwrap",
    ),
    (
        (
            "keylessd.core.legacy._unwrapped: condition: None in "
            "decode_base64(raw.strip().decode('ascii')) or None"
        ),
        "callers take nothing and None alike",
    ),
    (
        (
            "keylessd.core.merkle._roots_from_consistency_proof: condition: node in not node & "
            "1 and node"
        ),
        "where the node is the first one and alone, the proof is too long already",
    ),
    (
        (
            "keylessd.core.sct.verify_scts: condition: first_failure is not None in counted == "
            "0 and first_failure is not None"
        ),
        "the library reads no list without an SCT of version 1",
    ),
    (
        (
            "keylessd.core.signing_config._start: condition: service.valid_for is None in "
            "service.valid_for is None or service.valid_for.start is None"
        ),
        "only services whose period contains now come here",
    ),
    (
        (
            "keylessd.core.signing_config._start: condition: service.valid_for.start is None "
            "in service.valid_for is None or service.valid_for.start is None"
        ),
        "only services whose period contains now come here",
    ),
    (
        ("keylessd.core.steps.check_key_validity: comparison: case.managed is not None is True"),
        "the step is in the list for managed keys alone",
    ),
    (
        "keylessd.core.strict_json._depth: boundary: opened <= enough, the first sign",
        "the exact count that follows says the same",
    ),
    (
        "keylessd.core.strict_json._unique: comparison: len(result) != len(pairs) is True",
        "the exact comparison that follows says the same",
    ),
    (
        "keylessd.core.tiles.entry_of: boundary: at < len(bundle), the first sign",
        "whatever is too short or too long is refused after the loop",
    ),
    (
        "keylessd.core.tiles.entry_of: boundary: len(found) < tile.width, the first sign",
        "whatever is too short or too long is refused after the loop",
    ),
    (
        (
            "keylessd.core.tiles.entry_of: condition: at < len(bundle) in at < len(bundle) and "
            "len(found) < tile.width"
        ),
        "whatever is too short or too long is refused after the loop",
    ),
    (
        (
            "keylessd.core.strict_json.Fields.__init__: boundary: value.keys() <= known, the "
            "first sign"
        ),
        "the look at each key that follows says the same",
    ),
    (
        (
            "keylessd.core.strict_json.decode_base64: condition: text.endswith('=') in "
            "text.endswith('=') and (not _is_well_padded(text))"
        ),
        "without padding the last digit may be any",
    ),
    (
        (
            "keylessd.core.tiles.entry_of: condition: len(found) < tile.width in at < "
            "len(bundle) and len(found) < tile.width"
        ),
        "whatever is too short or too long is refused after the loop",
    ),
    (
        ("keylessd.core.timestamp._check_signature: comparison: algorithm is not None is True"),
        "a digest algorithm that is not supported was refused with the attributes",
    ),
    (
        "keylessd.policy.expect._check_pattern: condition: '' in expression or ''",
        "there is no pattern without an expression",
    ),
)

# name of the mutant -> why it is no other program
EQUIVALENT: Mapping[str, str] = dict(_LISTED)
