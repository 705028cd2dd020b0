"""Where the two verifiers disagree about bundles that were made anew, and why this house is right.

Whatever is not in here is a finding; daemon/doc/verification.md has the same list for people.
"""

from __future__ import annotations

from dataclasses import dataclass

from minted_faults import FAULTS


@dataclass(frozen=True)
class Verdict:
    """A class of disagreement.

    Attributes:
        faults: Names in `minted_faults.FAULTS`.
        stricter: Whether it is this house that refuses.
        why: As the documentation says it.
    """

    faults: tuple[str, ...]
    stricter: bool
    why: str


def _periods(what: str) -> tuple[str, ...]:
    return tuple(name for name in FAULTS if name.startswith(f"{what} period"))


VERDICTS = (
    Verdict(("two names",), True, "several names in a certificate"),
    Verdict(("name as URI",), True, "the kind of the name counts"),
    Verdict(("two issuers",), True, "the two issuer extensions differ"),
    Verdict(("issuer .8 alone",), False, "issuer by extension .8 alone"),
    Verdict(("two SCTs", "a known and an unknown SCT"), False, "several SCTs in a certificate"),
    Verdict(
        ("SCT before its log's time", *_periods("ctlogs")), True, "the period of a CT log's key"
    ),
    Verdict(
        (
            "root ended",
            "root starts later",
            "intermediate for servers",
            "root allows no intermediate",
        ),
        True,
        "the whole path to the anchor counts",
    ),
    Verdict(_periods("certificate_authorities"), True, "the period of an authority"),
    Verdict(_periods("tlogs"), True, "the period of a log's key"),
    Verdict(_periods("timestamp_authorities"), True, "a timestamp outside its authority's period"),
    Verdict(
        ("timestamp_authorities period -365 days, 0:00:00 to 0:00:00", "stamper ends at the time"),
        False,
        "end of a timestamp authority's period",
    ),
    Verdict(
        ("stamp with its certificates", "stamp by key identifier"),
        False,
        "order of a timestamp's certificates, signer by key identifier",
    ),
    Verdict(
        (
            "stamp for another certificate",
            "stamp with two signers",
            "stamp of another version",
            "no content type",
            "stamper is an authority",
        ),
        True,
        "form and signer of a timestamp",
    ),
    Verdict(
        ("unreadable stamp beside a good one",),
        False,
        "a timestamp that cannot be read, beside a good one",
    ),
    Verdict(("index of another in v2",), True, "Rekor v2: entry's index is not the proof's"),
    Verdict(
        ("another origin", "another origin in v1", "origin with a tree in v2"),
        True,
        "origin of a checkpoint",
    ),
    Verdict(("P-384", "P-521", "P-384 over SHA-256", "Ed25519"), False, "keys other than on P-256"),
    Verdict(
        ("about another artifact", "about nothing", "of another type", "no statement", "no JSON"),
        True,
        "the artifact must be a subject of the statement",
    ),
)


def is_explained(fault: str, *, stricter: bool) -> bool:
    """Return whether a disagreement about a fault is one of those listed."""
    return any(fault in one.faults and one.stricter == stricter for one in VERDICTS)
