"""Which socket to talk to: a pure function of the environment and of what exists."""

from keyless.errors import DaemonUnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SYSTEM_SOCKET = "/run/keyless/sign.sock"


def socket_path(environ: "Mapping[str, str]", uid: int, exists: "Callable[[str], bool]") -> str:
    """Return the path of the daemon's socket.

    ``$KEYLESS_SOCKET``; else ``$XDG_RUNTIME_DIR/keyless/sign.sock``; else the system's socket if
    it is there; else where a daemon of this user's own is started when there is no runtime
    directory in the environment (cron, su, ssh without a login session): in ``/run/user/UID`` if
    that exists, else in the user's state directory.

    Args:
        environ: The environment.
        uid: The user's number.
        exists: Whether a path exists and belongs to root or to the user.

    Raises:
        DaemonUnreachableError: the environment names no place at all.
    """
    if named := environ.get("KEYLESS_SOCKET"):
        return named
    # XDG Base Directory Specification: a path that is not absolute is to be ignored.
    if (runtime := environ.get("XDG_RUNTIME_DIR", "")).startswith("/"):
        return f"{runtime.rstrip('/')}/keyless/sign.sock"
    if exists(SYSTEM_SOCKET):
        return SYSTEM_SOCKET
    if exists(f"/run/user/{uid}"):
        return f"/run/user/{uid}/keyless/sign.sock"
    return f"{state_directory(environ)}/run/sign.sock"


def state_directory(environ: "Mapping[str, str]") -> str:
    """Return the directory of what outlives a login: ``$XDG_STATE_HOME/keyless`` or its default.

    Raises:
        DaemonUnreachableError: neither XDG_STATE_HOME nor HOME is an absolute path.
    """
    if (state := environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return f"{state.rstrip('/')}/keyless"
    if (home := environ.get("HOME", "")).startswith("/"):
        return f"{home.rstrip('/')}/.local/state/keyless"
    raise DaemonUnreachableError(
        "daemon_unreachable",
        "no place for the daemon's socket: neither XDG_RUNTIME_DIR nor HOME is set",
        hint="set KEYLESS_SOCKET to the path of the daemon's socket",
    )
