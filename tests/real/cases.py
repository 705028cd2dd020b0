"""What a judge is shown: one good bundle, and everything that must be refused in its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.real import matrix, tamper
from tests.real.clients import Expected, Judge

Refusal = Callable[[Path, Path, Expected], str | None]


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle and what it is about.

    Attributes:
        row: What it is, for the table.
        artifact: The file.
        bundle: The bundle, as a file.
        other: Another bundle of the same kind by the same signer, for swapping parts.
        who: The signer; None if a managed key signed.
        attestation: Whether it is an envelope.
    """

    row: str
    artifact: Path
    bundle: Path
    other: Path
    who: Expected
    attestation: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One question to a judge."""

    name: str
    bundle: Path
    artifact: Path
    who: Expected


def cases(made: Made, folder: Path, *, managed: bool = False) -> Iterator[Case]:
    """Yield the good case, then one for each thing that can be wrong by itself."""
    folder.mkdir(exist_ok=True)
    good = Case("good", made.bundle, made.artifact, made.who)
    yield good
    changed = folder / "changed"
    changed.write_bytes(made.artifact.read_bytes() + b"!")
    yield replace(good, name="artifact", artifact=changed)
    if not managed:
        yield replace(
            good, name="identity", who=replace(made.who, identity="x" + made.who.identity)
        )
        yield replace(good, name="issuer", who=replace(made.who, issuer=made.who.issuer + "/x"))
    bundle, other = (json.loads(path.read_text()) for path in (made.bundle, made.other))
    for name, damaged in {**tamper.damages(bundle), **_swaps(bundle, other)}.items():
        path = folder / f"{name.replace(' ', '-')}.json"
        path.write_text(json.dumps(damaged))
        yield replace(good, name=name, bundle=path)


def _swaps(bundle: tamper.Bundle, other: tamper.Bundle) -> dict[str, tamper.Bundle]:
    """Return the bundle with a part of the other one: genuine, and not its own."""
    made = {}
    for name, part in (
        ("other's certificate", "certificate"),
        ("other's certificate", "x509CertificateChain"),
        ("other's entry", "tlogEntries"),
        ("other's timestamp", "timestampVerificationData"),
    ):
        found = other["verificationMaterial"].get(part)
        if found and found != bundle["verificationMaterial"].get(part):
            made[name] = copy.deepcopy(bundle)
            made[name]["verificationMaterial"][part] = found
    return made


def judge(
    made: Made,
    column: str,
    refusal: Refusal,
    folder: Path,
    *,
    known: Mapping[tuple[str, str], str],
    managed: bool = False,
    skip: Collection[str] = (),
) -> None:
    """Put every case to one judge, fill the table, and fail on what is not as it should be.

    Args:
        made: The good bundle.
        column: The judge's name.
        refusal: Asks the judge.
        folder: Takes the damaged files.
        known: (row, case) or (``"*"``, case) -> why this judge answers otherwise.
        managed: A managed key signed, so nobody can be expected wrongly.
        skip: Cases that the judge cannot be shown.

    Raises:
        AssertionError: An unknown exception, or a known one that is none any more.
    """
    wrong = []
    for case in cases(made, folder, managed=managed):
        if case.name in skip:
            continue
        words = refusal(case.bundle, case.artifact, case.who)
        holds = (words is None) == (case.name == "good")
        excuse = known.get((made.row, case.name), known.get(("*", case.name)))
        found = None if holds else matrix.exception(column, words, excuse or "nobody knows why")
        matrix.TABLE.put(made.row, column, case.name, found)
        if holds == (excuse is not None):
            wrong.append(f"{case.name}: {words or 'accepted'} (known: {excuse})")
    assert not wrong, f"{column} about {made.row}: {wrong}"


def wrongly_judged(
    row: str,
    judges: Iterable[Judge],
    bundle: Path,
    artifact: Path,
    signers: Mapping[str, Expected],
) -> list[tuple[str, str, str | None]]:
    """Ask judges about one good bundle by whoever signed and by others; put it into the table.

    Args:
        row: What the bundle is, for the table.
        judges: Who is asked.
        bundle: The bundle, as a file.
        artifact: What it is about.
        signers: Whom the judges are told to expect, by case; only ``good`` did sign.

    Returns:
        Judge, case and the judge's words, wherever one answered otherwise than it should.
    """
    wrong = []
    for judge in judges:
        for case, expected in signers.items():
            said = judge.refusal(bundle, artifact, expected)
            holds = (said is None) == (case == "good")
            found = None if holds else f"{judge.name}: {said or 'accepted'}"
            matrix.TABLE.put(row, judge.name, case, found)
            if not holds:
                wrong.append((judge.name, case, said))
    return wrong
