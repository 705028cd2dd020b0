"""Digests of files, several algorithms in one pass. Reads files; keeps nothing of them."""

import os
import stat

from keyless.errors import KeylessError
from keyless.values import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol, TypeAlias

    # What is signed or verified: its digest, or the path of the file ("-" is standard input).
    Artifact: TypeAlias = "Digest | str | os.PathLike[str]"

    class _Hasher(Protocol):
        def update(self, data: "bytes | memoryview", /) -> None: ...
        def digest(self) -> bytes: ...


ALGORITHMS = ("sha256", "sha384", "sha512")

# Importing hashlib maps OpenSSL, 2.5 ms; the interpreter's own SHA-2 needs no import worth
# mentioning but hashes 0.25 GB/s where OpenSSL reaches 1.4. As long as a process has hashed no
# more bytes than this, its own is sooner done.
SMALL = 512 * 1024
_small_left = [SMALL]

# One read. Larger pieces leave the processor's cache, smaller ones cost system calls.
PIECE = 256 * 1024


def hash_file(
    path: "str | os.PathLike[str]", algorithms: "Iterable[str]" = ("sha256",)
) -> "dict[str, bytes]":
    """Return the digests of the file at *path* by algorithm.

    Args:
        path: A file, a pipe, or ``-`` for standard input.
        algorithms: Names out of ``sha256``, ``sha384``, ``sha512``.

    Raises:
        KeylessError: ``file_error`` if it cannot be read or changed meanwhile.
    """
    chosen = tuple(algorithms)
    return _hash_path(path, lambda _: chosen)


def _hash_path(
    path: "str | os.PathLike[str]", choose: "Callable[[os.stat_result], tuple[str, ...]]"
) -> "dict[str, bytes]":
    name = os.fspath(path)
    try:
        fd = os.dup(0) if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            before = os.fstat(fd)
            return _hash_fd(fd, name, choose(before), before)
        finally:
            os.close(fd)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        hint = None
        if isinstance(error, IsADirectoryError):
            hint = "name the files in it, or an archive of it"
        raise KeylessError("file_error", f"cannot read {name!r}: {reason}", hint=hint) from error
    except ValueError as error:  # a zero in it, or half a character
        raise KeylessError("file_error", f"no file can be called {name!r}") from error


def digest_of(artifact: "Artifact", algorithm: str = "sha256") -> Digest:
    """Return the digest of an artifact: of the file at a path, or a Digest as it is.

    Raises:
        KeylessError: ``file_error``.
    """
    if isinstance(artifact, Digest):
        return artifact
    return Digest(algorithm, hash_file(artifact, (algorithm,))[algorithm])


def digests_of(artifact: "Artifact") -> "list[Digest]":
    """Return the digests by which an artifact is verified.

    Of a file that is its SHA-256; if a bundle asks for another, the file is read again. What can
    be read but once (a pipe, standard input) is hashed in every algorithm while it is read.

    Raises:
        KeylessError: ``file_error``.
    """
    if isinstance(artifact, Digest):
        return [artifact]
    once = os.fspath(artifact) == "-"
    found = _hash_path(
        artifact, lambda status: ALGORITHMS[:1] if _is_regular(status) and not once else ALGORITHMS
    )
    return [Digest(algorithm, value) for algorithm, value in found.items()]


def _hash_fd(
    fd: int, name: str, algorithms: "tuple[str, ...]", before: os.stat_result
) -> "dict[str, bytes]":
    # A size of 0 may be a pipe, a device or a file of /proc, which tell no size.
    light = _is_light(before.st_size)
    hashers = {algorithm: _hasher(algorithm, light=light) for algorithm in algorithms}
    piece = bytearray(PIECE)
    with memoryview(piece) as view:
        while count := os.readv(fd, [piece]):
            for hasher in hashers.values():
                hasher.update(view[:count])
    after = os.fstat(fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) and _is_regular(
        before
    ):
        raise KeylessError("file_error", f"{name!r} changed while it was read", retryable=True)
    return {algorithm: hasher.digest() for algorithm, hasher in hashers.items()}


def _is_light(size: int) -> bool:
    if not 0 < size <= _small_left[0]:
        return False
    _small_left[0] -= size
    return True


def _is_regular(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)


def hash_bytes(data: bytes) -> bytes:
    """Return the SHA-256 of *data*, 32 bytes."""
    hasher = _hasher("sha256", light=_is_light(len(data)))
    hasher.update(data)
    return hasher.digest()


def _hasher(algorithm: str, *, light: bool) -> "_Hasher":
    if light:
        try:
            return _light_hasher(algorithm)
        except ImportError:  # an interpreter built without its own SHA-2
            pass
    import hashlib  # noqa: PLC0415  # maps OpenSSL; see SMALL

    return hashlib.new(algorithm)


def _light_hasher(algorithm: str) -> "_Hasher":
    # The modules behind hashlib where OpenSSL is missing: one module since Python 3.12.
    import sys  # noqa: PLC0415

    if sys.version_info >= (3, 12):
        import _sha2 as own  # noqa: PLC0415
    elif algorithm == "sha256":
        import _sha256 as own  # type: ignore[import-not-found]  # noqa: PLC0415
    else:
        import _sha512 as own  # type: ignore[import-not-found]  # noqa: PLC0415
    hasher: _Hasher = getattr(own, algorithm)()
    return hasher
