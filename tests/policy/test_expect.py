"""Expected signers: identity, issuer and extensions must match as a whole."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylessd.core.certificate import EXTENSIONS, Signer
from keylessd.errors import InvalidInputError, VerificationError
from keylessd.policy.expect import MAX_ACCEPTED, AnySigner, ExpectedSigner

WORKFLOW = "https://github.com/org/repo/.github/workflows/ci.yml@refs/heads/main"
GITHUB = "https://token.actions.githubusercontent.com"
BY_GITHUB = Signer(WORKFLOW, "uri", GITHUB, {"issuer": GITHUB, "build_trigger": "push"})
BY_PERSON = Signer("a.b@example.com", "email", "https://accounts.example", {})


def check(signer: Signer, **parts: object) -> str | None:
    try:
        ExpectedSigner(**parts).check(signer)  # type: ignore[arg-type]
    except VerificationError as error:
        return error.check
    return None


# --- exact ---------------------------------------------------------------------------------


def test_exact_signer() -> None:
    assert check(BY_GITHUB, identity=WORKFLOW, issuer=GITHUB) is None
    assert check(BY_PERSON, identity="a.b@example.com", issuer="https://accounts.example") is None


@pytest.mark.parametrize(
    "identity",
    [
        WORKFLOW[:-1],
        WORKFLOW + "x",
        WORKFLOW.upper(),
        " " + WORKFLOW,
        "https://github.com/org/repo/",
        WORKFLOW.replace(".yml", "Xyml"),
    ],
    ids=["shorter", "longer", "upper-case", "space", "prefix", "dot"],
)
def test_identity_is_compared_whole(identity: str) -> None:
    assert check(BY_GITHUB, identity=identity, issuer=GITHUB) == "identity"


@pytest.mark.parametrize("issuer", [GITHUB + "/", GITHUB[:-1], GITHUB.upper(), WORKFLOW])
def test_issuer_is_compared_whole(issuer: str) -> None:
    assert check(BY_GITHUB, identity=WORKFLOW, issuer=issuer) == "issuer"


def test_dot_in_an_exact_identity_is_a_dot() -> None:
    other = Signer("aXb@example.com", "email", "https://accounts.example", {})
    parts = {"identity": "a.b@example.com", "issuer": "https://accounts.example"}
    assert check(other, **parts) == "identity"


def test_failure_says_what_was_found_and_wanted() -> None:
    with pytest.raises(VerificationError) as error:
        ExpectedSigner(identity="x@example.com", issuer="https://accounts.example").check(BY_PERSON)
    assert error.value.details["found"] == "a.b@example.com"
    assert error.value.details["wanted"] == "x@example.com"


# --- kinds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identity", "kind", "refusal"),
    [
        ("a@example.com", "email", None),
        ("a@example.com", "othername", "identity-kind"),
        ("a!example.com", "othername", None),
        ("a!b@example.com", "email", None),
        ("system:a!example.com", "othername", None),
        ("system:a!example.com", "email", "identity-kind"),
        ("https://x.example/a", "othername", "identity-kind"),
        ("a@example.com", "uri", "identity-kind"),
        ("https://x.example/a@b", "uri", None),
        ("https://x.example/a@b", "email", "identity-kind"),
    ],
)
def test_text_of_one_kind_does_not_name_another(
    identity: str, kind: str, refusal: str | None
) -> None:
    signer = Signer(identity, kind, GITHUB, {})  # type: ignore[arg-type]
    assert check(signer, identity=identity, issuer=GITHUB) == refusal


def test_kind_that_is_demanded_rules_over_how_the_identity_looks() -> None:
    odd = Signer("a:b@example.com", "email", GITHUB, {})
    assert check(odd, identity=odd.identity, issuer=GITHUB) == "identity-kind"
    assert check(odd, identity=odd.identity, issuer=GITHUB, kind="email") is None
    assert check(odd, identity=odd.identity, issuer=GITHUB, kind="uri") == "identity-kind"


def test_kind_can_be_demanded() -> None:
    parts = {"identity_regexp": ".*", "issuer": GITHUB}
    assert check(BY_GITHUB, **parts, kind="uri") is None
    assert check(BY_GITHUB, **parts, kind="email") == "identity-kind"
    assert check(BY_GITHUB, **parts) is None


# --- expressions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        (r"https://github\.com/org/.*", True),
        (r".*@refs/heads/main", True),
        (r".*", True),
        (r"^https://.*main$", True),
        (r"https://github\.com/org/", False),
        (r"github\.com", False),
        (r"refs/heads/main", False),
        (r"", None),
        (r"https://github\.com/org|.*evil.*", False),
        (r"(?i)HTTPS://GITHUB.*", True),
        (r"HTTPS://.*", False),
    ],
)
def test_expression_must_match_all_of_the_identity(expression: str, matches: bool | None) -> None:
    if matches is None:
        with pytest.raises(InvalidInputError):
            ExpectedSigner(identity_regexp=expression, issuer=GITHUB)
        return
    found = check(BY_GITHUB, identity_regexp=expression, issuer=GITHUB)
    assert found == (None if matches else "identity")


def test_expression_must_match_all_of_the_issuer() -> None:
    right = r"https://token\.actions\..*"
    assert check(BY_GITHUB, identity=WORKFLOW, issuer_regexp=right) is None
    assert check(BY_GITHUB, identity=WORKFLOW, issuer_regexp="token") == "issuer"


@pytest.mark.parametrize(
    ("expression", "partly"), [(r"github\.com", True), (r"https://.*/nobody", False)]
)
def test_expression_that_matches_a_part_only_says_so(expression: str, partly: bool) -> None:
    with pytest.raises(VerificationError) as error:
        ExpectedSigner(identity_regexp=expression, issuer=GITHUB).check(BY_GITHUB)
    assert error.value.details["found"] == WORKFLOW
    assert error.value.details["wanted"] == expression
    assert (error.value.hint is not None) == partly


def test_line_end_hides_nothing() -> None:
    sly = Signer("evil\nhttps://good", "uri", GITHUB, {})
    for expression in ("https://good", "(?m)^https://good$", ".*good", "evil$"):
        assert check(sly, identity_regexp=expression, issuer=GITHUB) == "identity"
    trailing = Signer("https://good\n", "uri", GITHUB, {})
    assert check(trailing, identity_regexp="https://good$", issuer=GITHUB) == "identity"


@pytest.mark.parametrize("expression", ["(", "*", r"a(?=b)", r"(a)\1", "a{1,5000}", "[z-a]"])
def test_expression_that_does_not_compile(expression: str) -> None:
    with pytest.raises(InvalidInputError, match=r"does not compile: [a-z]") as caught:
        ExpectedSigner(identity_regexp=expression, issuer=GITHUB)
    assert "b'" not in caught.value.message


def test_huge_expression_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        ExpectedSigner(identity_regexp="a" * 5000, issuer=GITHUB)


def test_costly_expression_takes_linear_time() -> None:
    long = Signer("a" * 50_000, "othername", GITHUB, {})
    assert check(long, identity_regexp="(a*)*b", issuer=GITHUB) == "identity"


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_matches_or_raises_the_declared_errors(expression: str, identity: str) -> None:
    try:
        expected = ExpectedSigner(identity_regexp=expression, issuer=GITHUB)
    except InvalidInputError:
        return
    with contextlib.suppress(VerificationError):
        expected.check(Signer(identity, "uri", GITHUB, {}))


# --- extensions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extensions", "refusal"),
    [
        ({"build_trigger": "push"}, None),
        ({"issuer": GITHUB, "build_trigger": "push"}, None),
        ({"build_trigger": "Push"}, "certificate-extension-value"),
        ({"build_trigger": ""}, "certificate-extension-value"),
        ({"source_repository_uri": ""}, "certificate-extension-value"),
        (
            {"build_trigger": "push", "source_repository_ref": "x"},
            "certificate-extension-value",
        ),
    ],
)
def test_every_extension_given_must_be_there(
    extensions: dict[str, str], refusal: str | None
) -> None:
    parts = {"identity": WORKFLOW, "issuer": GITHUB, "extensions": extensions}
    assert check(BY_GITHUB, **parts) == refusal


# --- malformed expectations ----------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"identity": WORKFLOW},
        {"issuer": GITHUB},
        {"identity": WORKFLOW, "identity_regexp": ".*", "issuer": GITHUB},
        {"identity": WORKFLOW, "issuer": GITHUB, "issuer_regexp": ".*"},
        {"identity": "", "issuer": GITHUB},
        {"identity": WORKFLOW, "issuer": ""},
        {"identity": WORKFLOW, "issuer": GITHUB, "extensions": {"build_triger": "push"}},
        {"identity": WORKFLOW, "issuer": GITHUB, "kind": "dns"},
    ],
)
def test_incomplete_expectation_is_refused(parts: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        ExpectedSigner(**parts)  # type: ignore[arg-type]


# --- several -------------------------------------------------------------------------------

ONE = ExpectedSigner(identity=WORKFLOW, issuer=GITHUB)
TWO = ExpectedSigner(identity="a.b@example.com", issuer="https://accounts.example")


def test_any_of_several() -> None:
    both = AnySigner((ONE, TWO))
    both.check(BY_GITHUB)
    both.check(BY_PERSON)


def test_parts_of_several_are_not_mixed() -> None:
    mixed = Signer(WORKFLOW, "uri", "https://accounts.example", {})
    with pytest.raises(VerificationError) as error:
        AnySigner((ONE, TWO)).check(mixed)
    assert error.value.check == "identity"


def test_none_accepts_nobody() -> None:
    with pytest.raises(VerificationError) as error:
        AnySigner(()).check(BY_GITHUB)
    assert error.value.check == "identity"


def test_all_that_were_accepted_are_named() -> None:
    by_expression = ExpectedSigner(identity_regexp="b.*", issuer_regexp="https://.*")
    stranger = Signer("c@example.com", "email", "https://accounts.example", {})
    with pytest.raises(VerificationError) as error:
        AnySigner((ONE, by_expression)).check(stranger)
    assert error.value.details["found"] == "c@example.com (https://accounts.example)"
    assert error.value.details["wanted"] == f"{ONE} or /b.*/ (/https://.*/)"
    assert str(ONE) == f"{ONE.identity} ({ONE.issuer})"


def test_the_only_ones_reason_is_kept() -> None:
    with pytest.raises(VerificationError) as error:
        AnySigner((ExpectedSigner(identity=WORKFLOW, issuer="https://x.example"),)).check(BY_GITHUB)
    assert error.value.check == "issuer"


def test_too_many() -> None:
    AnySigner((ONE,) * MAX_ACCEPTED)
    with pytest.raises(InvalidInputError):
        AnySigner((ONE,) * (MAX_ACCEPTED + 1))


# --- names of extensions -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("build_signer_uri", "build_signer_uri"),
        ("build-signer-uri", "build_signer_uri"),
        ("BuildSignerURI", "build_signer_uri"),
        ("buildSignerURI", "build_signer_uri"),
        ("1.3.6.1.4.1.57264.1.9", "build_signer_uri"),
        ("githubWorkflowTrigger", "github_workflow_trigger"),
        ("1.3.6.1.4.1.57264.1.2", "github_workflow_trigger"),
        ("sourceRepositoryVisibilityAtSigning", "source_repository_visibility"),
        ("issuerV2", "issuer"),
        ("1.3.6.1.4.1.57264.1.24", "token_subject"),
    ],
)
def test_extension_has_several_spellings(spelling: str, name: str) -> None:
    expected = ExpectedSigner(identity="a@b", issuer="i", extensions={spelling: "v"})
    assert expected.extensions == {name: "v"}


@pytest.mark.parametrize(
    "names",
    [
        ["build_signer"],
        ["1.3.6.1.4.1.57264.1.7"],
        ["1.3.6.1.4.1.57264.1.25"],
        ["13614157264 1 9"],
        [""],
        ["build_signer_uri", "BuildSignerURI"],
    ],
)
def test_extension_that_is_unknown_or_named_twice(names: list[str]) -> None:
    with pytest.raises(InvalidInputError):
        ExpectedSigner(identity="a@b", issuer="i", extensions=dict.fromkeys(names, "v"))


def test_every_extension_of_fulcio_can_be_expected() -> None:
    names = list(EXTENSIONS)
    assert len(names) == 22  # .2 to .24 but .7, which is no extension
    signer = Signer("a@b", "email", "i", {name: f"v {name}" for name in names})
    for name in names:
        ExpectedSigner(identity="a@b", issuer="i", extensions={name: f"v {name}"}).check(signer)
        with pytest.raises(VerificationError) as caught:
            ExpectedSigner(identity="a@b", issuer="i", extensions={name: "v"}).check(signer)
        assert caught.value.check == "certificate-extension-value"


def test_expression_among_several_that_matches_a_part_only_says_so() -> None:
    exact = ExpectedSigner(identity="eve@example.com", issuer=GITHUB)
    partly = ExpectedSigner(identity_regexp="https://github.com/org/", issuer=GITHUB)
    for accepted, told in [((exact, partly), True), ((exact, exact), False)]:
        with pytest.raises(VerificationError) as caught:
            AnySigner(accepted).check(BY_GITHUB)
        assert (caught.value.hint is not None) is told
