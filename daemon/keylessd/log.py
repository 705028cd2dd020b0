"""Log lines: JSON for machines, one line for people; escapes and redacts. Decides no levels.

An event has a name, ``noun.verb``, and fields; there is no formatted text:
``log.info("peer.denied", uid=1000, reason="other-uid")``. Whatever comes from outside is a field,
so it can neither break a line nor pass for another event. Fields bound by bind() are added to
every event of the task that bound them, and of the tasks it starts.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import re
import sys
import traceback
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

Field = str | int | float | bool | bytes | None | list[str] | list[int]

MAX_TEXT: Final = 2048  # characters of one field; longer ones are cut
MAX_FRAMES: Final = 12  # innermost frames of a traceback

_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# JSON Web Tokens begin with the base64url of '{"'; a JWT's parts may be cut anywhere by a limit.
# Those whose header has a blank after the brace are known by the length of their parts.
_SECRETS: Final = (
    (re.compile(r"eyJ[\w-]{10,}(?:\.[\w-]*){0,4}"), "[token]"),
    (re.compile(r"\be[wy][\w-]{14,}\.[\w-]{40,}(?:\.[\w-]*){0,3}"), "[token]"),
    (
        re.compile(
            r"(?i)\b((?:refresh|access|id|identity)_token|client_secret|code_verifier|password)"
            r"([\"']?\s*[=:]\s*[\"']?)[^\s&\"',;}]+"
        ),
        r"\1\2[secret]",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 [secret]"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END|\Z)", re.DOTALL), "[key]"),
)
_SHORTEST_SECRET: Final = len("id_token=x")  # of what the patterns find
_CONTEXT: Final[contextvars.ContextVar[Mapping[str, Field] | None]] = contextvars.ContextVar(
    "keylessd-log-context", default=None
)
# Libraries that write whole URLs, headers or frames below this level.
_QUIET: Final = (
    *("httpx", "httpcore", "hpack", "h2", "h11", "tuf", "securesystemslib", "urllib3"),
    *("keyring", "secretstorage", "jeepney"),
)


class EventLog:
    """Writes the events of one part of the daemon."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Field) -> None:
        """Report what only matters while looking for a fault."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Field) -> None:
        """Report what an operator wants to find later."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Field) -> None:
        """Report what was handled but should not last."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, exc: BaseException | None = None, **fields: Field) -> None:
        """Report a fault; *exc* adds its type, its text and the places it went through."""
        self._write(logging.ERROR, event, fields, exc)

    def _write(
        self,
        level: int,
        event: str,
        fields: Mapping[str, Field],
        exc: BaseException | None = None,
    ) -> None:
        if self._logger.isEnabledFor(level):
            described = {**(_CONTEXT.get() or {}), **fields}
            if exc is not None:
                described |= describe_exception(exc)
            # Made here, since Logger.log() looks up the stack for the caller, whom no line names.
            record = logging.LogRecord(self._logger.name, level, "", 0, event, None, None)
            record.fields = described
            self._logger.handle(record)


@contextlib.contextmanager
def bind(**fields: Field) -> Generator[None]:
    """Add *fields* to every event of this task, and of tasks started, within the block."""
    before = _CONTEXT.get()
    _CONTEXT.set({**(before or {}), **fields})
    try:
        yield
    finally:
        # Not reset(token): a block may end in another copy of the context than it began in.
        _CONTEXT.set(before)


def describe_exception(exc: BaseException) -> dict[str, Field]:
    """Return fields for *exc*: type, text, innermost places. No values of local variables.

    The text of UnicodeDecodeError and the like would carry the whole input; it is left out.
    """
    if isinstance(exc, BaseExceptionGroup):
        inner = exc.exceptions[0]
        fields = describe_exception(inner)
        return fields | {"group": len(exc.exceptions)} if len(exc.exceptions) > 1 else fields
    text = "" if isinstance(exc, UnicodeError) else str(exc)
    places = [
        f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(exc.__traceback__)[-MAX_FRAMES:]
    ]
    fields = {"error": type(exc).__qualname__, "text": text, "at": places}
    if exc.__cause__ is not None:
        cause = exc.__cause__
        fields["cause"] = (
            f"{type(cause).__qualname__}: {'' if isinstance(cause, UnicodeError) else cause}"
        )
    return fields


def redact(text: str) -> str:
    """Return *text* without anything shaped like a token, a password or a private key."""
    if len(text) < _SHORTEST_SECRET:
        return text
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def printable(value: Field) -> Field:
    """Return *value* fit for a log: redacted, cut to MAX_TEXT, bytes as hex digits."""
    if isinstance(value, str):
        # Cut before the patterns run, with room for one that the cut would split.
        redacted = redact(value[: 2 * MAX_TEXT])
        return redacted if len(redacted) <= MAX_TEXT else redacted[:MAX_TEXT] + "..."
    if isinstance(value, bytes):
        return value[:64].hex()
    if isinstance(value, list):
        return [str(printable(item)) for item in value[:64]]
    if value is None or isinstance(value, bool | int | float):
        return value
    # A field of another type is a programming error; a log line must never be the crash.
    return f"<{type(value).__name__}>"


class _Formatter(logging.Formatter):
    """What both forms share: the fields of a record, of ours or of a library's."""

    def fields(self, record: logging.LogRecord) -> dict[str, Field]:
        fields: dict[str, Field] = {}
        own = getattr(record, "fields", None)
        if isinstance(own, dict):
            fields = {str(key): printable(value) for key, value in own.items()}
        elif record.exc_info and record.exc_info[1] is not None:
            fields = {
                key: printable(value)
                for key, value in describe_exception(record.exc_info[1]).items()
            }
        return fields

    def event(self, record: logging.LogRecord) -> tuple[str, dict[str, Field]]:
        """Return name and fields; a library's message becomes a field of ``library.message``."""
        if hasattr(record, "fields"):
            return str(record.msg), self.fields(record)
        message = printable(record.getMessage())
        return "library.message", {"message": message, **self.fields(record)}


class JsonFormatter(_Formatter):
    """One JSON object per line, ASCII only."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        event, fields = self.event(record)
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event,
            **{key: value for key, value in fields.items() if key not in _RESERVED},
        }
        return _encode(line)


# allow_nan stays on: a line with NaN is better than no line.
_encode: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_RESERVED: Final = frozenset({"ts", "level", "logger", "event"})


class HumanFormatter(_Formatter):
    """One line for a person at a terminal; everything hostile is escaped to ASCII."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        event, fields = self.event(record)
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = record.levelname.lower()
        if self._colour and (code := _COLOURS.get(record.levelno)):
            level = f"\x1b[{code}m{level}\x1b[0m"
        described = " ".join(f"{key}={_shown(value)}" for key, value in fields.items())
        return f"{time} {level} {event} {described}".rstrip()


_COLOURS: Final = {logging.WARNING: 33, logging.ERROR: 31}
_PLAIN: Final = re.compile(r"[\w./:@+-]+", re.ASCII)


def _shown(value: Field) -> str:
    """Write a plain word as it is and anything else as a JSON string."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=True)


class _LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines to one stream; a failure to write never reaches the daemon."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Drop the line: stderr is gone or full, and there is nowhere left to say so."""


def configure(level: str, *, stream: TextIO | None = None, human: bool | None = None) -> None:
    """Send every log line of the process to *stream*; call again to change the level.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        stream: Where to; standard error if None.
        human: Form of the lines; None means by whether *stream* is a terminal.
    """
    target = sys.stderr if stream is None else stream
    terminal = target.isatty()
    handler = _LineHandler(target)
    if terminal if human is None else human:
        handler.setFormatter(HumanFormatter(colour=terminal))
    else:
        handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
