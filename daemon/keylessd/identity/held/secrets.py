"""Reads the secret of a client from where the settings say it lies; the settings never hold it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keylessd.errors import IdentityError
from keylessd.identity.held.file import read_token_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keylessd.held_settings import SecretPlace
    from keylessd.secret import Secret

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"


def secret_path(name: str, place: SecretPlace, environ: Mapping[str, str]) -> Path:
    """Return the file that holds a secret.

    Args:
        name: Of the identity, for errors.
        place: What the settings say.
        environ: Environment of the daemon; systemd puts the directory of its credentials there
            (``LoadCredential=``, ``LoadCredentialEncrypted=``).

    Raises:
        IdentityError: ``identity_unavailable``: there is no such directory.
    """
    if place.file is not None:
        return place.file
    directory = environ.get(CREDENTIALS_VARIABLE, "")
    if not directory.startswith("/") or place.credential is None:
        raise IdentityError(
            "identity_unavailable",
            f"identity {name!r}: the credential {place.credential!r} is not there: the service"
            f" manager has set no {CREDENTIALS_VARIABLE}",
            hint="pass it with LoadCredential= of the unit, or name client_secret_file",
        )
    return Path(directory) / place.credential


def read_secret(name: str, place: SecretPlace, environ: Mapping[str, str]) -> Secret:
    """Return the secret, without the blanks around it. Blocks.

    Raises:
        IdentityError: ``identity_unavailable``; it names the file and never quotes it.
    """
    return read_token_file(name, secret_path(name, place, environ))
