"""Locks the signing of a user until the same passphrase comes again. Knows no passphrase.

Only a salted scrypt hash is held, for as long as the lock is. Guessing is slowed down for the
connection that guesses and nobody else; each guess costs a thread of its own kind some 50 ms.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from keylessd.errors import IdentityError, InvalidInputError, NotAllowedError
from keylessd.log import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from keylessd.flow.threads import Threads

# RFC 7914; 32 MiB and some 50 ms, which nobody notices who types a passphrase.
SCRYPT_N = 1 << 15
SCRYPT_R = 8
SCRYPT_P = 1
HASH_BYTES = 32
SALT_BYTES = 16
MAX_PASSPHRASE = 1024  # bytes
WRONG_SECONDS = 0.1  # for each wrong guess of a connection so far
MAX_WRONG_SECONDS = 10.0
MAX_CONNECTIONS = 1024  # whose wrong guesses are remembered

_log = EventLog(__name__)


@dataclass(frozen=True, slots=True)
class _Locked:
    salt: bytes
    hash: bytes


class Locks:
    """The locks of all users.

    Args:
        threads: Runs scrypt, under the limit ``passphrase``.
        random_bytes: Source of salts.
    """

    def __init__(self, threads: Threads, random_bytes: Callable[[int], bytes]) -> None:
        self._threads = threads
        self._random_bytes = random_bytes
        self._locked: dict[int, _Locked] = {}
        self._wrong: OrderedDict[int, int] = OrderedDict()

    def is_locked(self, owner_uid: int) -> bool:
        """Return whether the user's signing is locked."""
        return owner_uid in self._locked

    def check(self, owner_uid: int) -> None:
        """Refuse a locked user.

        Raises:
            IdentityError: ``locked``.
        """
        if owner_uid in self._locked:
            raise IdentityError(
                "locked", "the daemon is locked and signs nothing", hint="run `keyless unlock`"
            )

    async def lock(self, owner_uid: int, passphrase: bytes) -> None:
        """Lock with *passphrase*, 1 to MAX_PASSPHRASE bytes.

        Raises:
            IdentityError: ``locked``: it is already; whoever comes second must not change the
                passphrase.
            InvalidInputError: the passphrase is empty or too long.
        """
        _check_length(passphrase)
        self.check(owner_uid)
        salt = self._random_bytes(SALT_BYTES)
        hashed = await self._threads.run("passphrase", _hash, salt, passphrase)
        self.check(owner_uid)  # somebody may have been faster
        self._locked[owner_uid] = _Locked(salt, hashed)
        _log.info("daemon.locked", uid=owner_uid)

    async def unlock(self, owner_uid: int, passphrase: bytes, *, connection: int) -> None:
        """Unlock, if *passphrase* is the one that locked. Not locked is no error.

        Args:
            owner_uid: The user.
            passphrase: The guess.
            connection: Number of the connection that guesses; its answers come the later, the
                more it has guessed wrong.

        Raises:
            InvalidInputError: the passphrase is empty or too long.
            NotAllowedError: it is wrong.
        """
        _check_length(passphrase)
        locked = self._locked.get(owner_uid)
        if locked is None:
            return
        wrong = self._guessed(connection)
        if wrong:
            # Before the guess is looked at, so that a right one tells nothing sooner either.
            await trio.sleep(min(MAX_WRONG_SECONDS, WRONG_SECONDS * wrong))
        hashed = await self._threads.run("passphrase", _hash, locked.salt, passphrase)
        if hmac.compare_digest(hashed, locked.hash):
            if self._locked.get(owner_uid) is locked:
                del self._locked[owner_uid]
            self._wrong.pop(connection, None)
            _log.info("daemon.unlocked", uid=owner_uid)
            return
        _log.warning("unlock.refused", uid=owner_uid, guesses=wrong + 1)
        raise NotAllowedError("that is not the passphrase the daemon was locked with")

    def _guessed(self, connection: int) -> int:
        """Return how often the connection has guessed, and count one more.

        At once, not when the guess has proved wrong: a connection can send many side by side.
        """
        guesses = self._wrong.pop(connection, 0)
        self._wrong[connection] = guesses + 1
        if len(self._wrong) > MAX_CONNECTIONS:
            self._wrong.popitem(last=False)
        return guesses


def _check_length(passphrase: bytes) -> None:
    if not 0 < len(passphrase) <= MAX_PASSPHRASE:
        raise InvalidInputError(f"a passphrase has from 1 to {MAX_PASSPHRASE} bytes")


def _hash(salt: bytes, passphrase: bytes) -> bytes:
    kdf = Scrypt(salt=salt, length=HASH_BYTES, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    # Of its digest: scrypt itself takes passphrases that differ in trailing zero bytes for one.
    return kdf.derive(hashlib.sha256(passphrase).digest())
