"""One command line per thing that each client can do here; what `up` prints is what the tests run.

They need nothing but the environment of a stack, with ``$FILE`` in it. Each is for a shell.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.real.versions import GO, node_modules

_SIGNER = '--certificate-identity "$SIGNER" --certificate-oidc-issuer "$GITSIGN_OIDC_ISSUER"'
_PYTHON_SIGNER = '--cert-identity "$SIGNER" --cert-oidc-issuer "$GITSIGN_OIDC_ISSUER"'
_TRUST = '--trusted-root "$TRUSTED_ROOT"'
# Where these are set cosign takes no trusted root from its repository.
_NO_FILES = "env -u SIGSTORE_ROOT_FILE -u SIGSTORE_CT_LOG_PUBLIC_KEY_FILE"
_NO_FILES += " -u SIGSTORE_REKOR_PUBLIC_KEY"
_GIT = "-c gpg.format=x509 -c gpg.x509.program=gitsign -c user.name=builder -c user.email=$SIGNER"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one client does with ``$FILE``.

    Attributes:
        client: Its name.
        lines: Command lines, to be run in this order.
    """

    client: str
    lines: tuple[str, ...]


RECIPES = (
    Recipe("keyless", ('keyless sign "$FILE"', f'keyless verify {_SIGNER} "$FILE"')),
    Recipe(
        "cosign",
        (
            (
                f'cosign sign-blob --yes {_TRUST} --signing-config "$SIGNING_CONFIG"'
                ' --bundle "$FILE.cosign.json" "$FILE"'
            ),
            (
                f"cosign verify-blob --new-bundle-format {_TRUST} --use-signed-timestamps {_SIGNER}"
                ' --bundle "$FILE.cosign.json" "$FILE"'
            ),
        ),
    ),
    Recipe(
        "cosign by the TUF repository",
        (
            'cosign initialize --mirror "$TUF_MIRROR" --root "$TUF_ROOT_JSON"',
            'cosign sign-blob --yes --bundle "$FILE.cosign-tuf.json" "$FILE"',
            (
                f"{_NO_FILES} cosign verify-blob --new-bundle-format --use-signed-timestamps"
                f' {_SIGNER} --bundle "$FILE.cosign-tuf.json" "$FILE"'
            ),
        ),
    ),
    Recipe(
        "cosign 2, the legacy forms",
        (
            (
                'cosign2 sign-blob --yes --fulcio-url "$URL_FULCIO" --rekor-url "$URL_REKOR1"'
                ' --output-signature "$FILE.sig" --output-certificate "$FILE.pem"'
                ' --bundle "$FILE.bundle" "$FILE"'
            ),
            f'cosign2 verify-blob --bundle "$FILE.bundle" {_SIGNER} "$FILE"',
        ),
    ),
    Recipe(
        "sigstore-python",
        (
            (
                'sigstore --trust-config "$TRUST_CONFIG" sign --identity-token "$SIGSTORE_ID_TOKEN"'
                ' --bundle "$FILE.python.json" "$FILE"'
            ),
            (
                f'sigstore --trust-config "$TRUST_CONFIG" verify identity {_PYTHON_SIGNER}'
                ' --bundle "$FILE.python.json" "$FILE"'
            ),
        ),
    ),
    Recipe(
        "sigstore-js",
        (
            'keyless sign --trust-config "$TRUST_CONFIG_V1" --bundle "$FILE.js.json" "$FILE"',
            (
                'sigstore-js verify "$FILE.js.json" --blob-file "$FILE"'
                ' --tuf-mirror-url "$TUF_MIRROR" --tuf-root-path "$TUF_ROOT_JSON"'
                ' --tuf-cache-path "$KEYLESS_REAL/tuf-js" --certificate-identity-email "$SIGNER"'
                ' --certificate-issuer "$GITSIGN_OIDC_ISSUER"'
            ),
        ),
    ),
    Recipe(
        "gitsign",
        (
            'git init -q "$FILE.git" && cd "$FILE.git"',
            f"git {_GIT} commit -q -S --allow-empty -m signed",
            f"gitsign verify {_SIGNER} HEAD",
        ),
    ),
)


def environment(
    *, directory: Path, trust: Path, tuf: tuple[str, Path], signer: str, urls: Mapping[str, str]
) -> dict[str, str]:
    """Return what points every client at a stack; also the tests' own use of it is this.

    Args:
        directory: Of the stack.
        trust: Of its trust documents.
        tuf: URL and first root of the TUF repository.
        signer: Whom the token names.
        urls: Name -> where a service is.
    """
    keys = directory / "keys"
    return {
        "KEYLESS_REAL": str(directory),
        "PATH": os.pathsep.join([str(_programs(directory)), os.environ["PATH"]]),
        "SIGNER": signer,
        # keyless; --trusted-root and --signing-config of keyless and cosign; sigstore-python.
        "KEYLESS_TRUST_CONFIG": str(trust / "trust-v2.json"),
        "TRUSTED_ROOT": str(trust / "trusted_root.json"),
        "SIGNING_CONFIG": str(trust / "signing-v2.json"),
        "TRUST_CONFIG": str(trust / "trust-v2.json"),
        "TRUST_CONFIG_V1": str(trust / "trust-v1-tsa.json"),
        # All that take their trust from a TUF repository. cosign keeps what it read there here.
        "TUF_MIRROR": tuf[0],
        "TUF_ROOT_JSON": str(tuf[1]),
        "TUF_ROOT": str(directory / "tuf-cosign"),
        # gitsign, and cosign 2 for its legacy forms.
        "SIGSTORE_ROOT_FILE": str(keys / "ca.pem"),
        "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE": str(keys / "ct.pub"),
        "SIGSTORE_REKOR_PUBLIC_KEY": str(keys / "rekor1.pub"),
        "GITSIGN_FULCIO_URL": urls["fulcio"],
        "GITSIGN_REKOR_URL": urls["rekor1"],
        "GITSIGN_OIDC_ISSUER": urls["dex"],
        "GITSIGN_OIDC_CLIENT_ID": "sigstore",
        "GITSIGN_REKOR_MODE": "offline",
        **{f"URL_{name.upper()}": url for name, url in urls.items()},
    }


def _programs(directory: Path) -> Path:
    """Return a folder with every client by the name that the recipes call it."""
    folder = directory / "bin"
    if not folder.is_dir():
        folder.mkdir()
        for module in GO:
            for name in module.programs:
                (folder / name).symlink_to(module.place / name)
        (folder / "sigstore-js").symlink_to(node_modules() / ".bin" / "sigstore")
        for name in ("keyless", "keylessd", "sigstore"):
            (folder / name).symlink_to(Path(sys.executable).with_name(name))
    return folder


def shown() -> list[str]:
    """Return the recipes as comments, for a person to copy from."""
    lines = ["# Then, with a file: export FILE=..."]
    for recipe in RECIPES:
        lines += [f"# {recipe.client}:", *(f"#   {line}" for line in recipe.lines)]
    return lines


def variables(recipe: Recipe) -> set[str]:
    """Return the names of the variables that a recipe reads."""
    return set(re.findall(r"\$([A-Z][A-Z0-9_]*)", " ".join(recipe.lines)))
