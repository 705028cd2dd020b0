"""The part of the blocking client that neither signs nor verifies: who, and how the daemon is."""

from keyless import _calls
from keyless._hash import hash_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any

    from keyless._calls import Notice
    from keyless._identities import Ambient, EndedSession
    from keyless._line import Line
    from keyless.states import Identity, InstanceState, Status
    from keyless.values import Where


class DaemonMethods:
    """Methods of Client; see there."""

    __slots__ = ("_environ", "_line")
    _environ: "Mapping[str, str]"
    _line: "Line"

    def _place(self, where: "Where | None") -> _calls.Place:
        """Return where a request goes; the environment says it if the caller does not."""
        if where is None:
            where = _surroundings().where_named(self._environ)
        return _calls.Place(where, hash_bytes)

    # --- identities ---------------------------------------------------------------------------

    def whoami(
        self,
        *,
        where: "Where | None" = None,
        identity_token: "str | None" = None,
        identity: "str | None" = None,
        ambient: "Ambient | None" = None,
    ) -> "list[Identity]":
        """Return as whom a signature could be made now, all of them if no *identity* is given."""
        found: list[Identity] = self._line.run(
            _identities().whoami(
                self._place(where),
                identity_token=identity_token,
                identity=identity,
                ambient=ambient,
            )
        )
        return found

    def login(
        self,
        *,
        on_event: "Notice",
        where: "Where | None" = None,
        flow: str = "browser",
        connector: "str | None" = None,
        identity: "str | None" = None,
        client_id: "str | None" = None,
        default: bool = False,
    ) -> "Identity":
        """Let the person here log in; waits for them.

        Args:
            on_event: Called with ``open_url``, ``device_code`` or ``enter_code`` and the facts to
                show. The code of the last goes back by login_code() of another client.
            where: Which Sigstore instance; None leaves it to the environment, see Client.
            flow: ``"browser"``, ``"device"`` or ``"oob"``.
            connector: ``connector_id`` of a federating issuer.
            identity: Who should log in; anybody else is refused.
            client_id: Whom the issuer knows us as; None for ``sigstore``.
            default: Whether the session becomes the default of its instance.
        """
        found: Identity = self._line.run(
            _identities().login(
                self._place(where),
                flow=flow,
                connector=connector,
                identity=identity,
                client_id=client_id,
                default=default,
                on_event=on_event,
            )
        )
        return found

    def login_code(self, login: str, code: str) -> None:
        """Send the code that a page showed for the login called *login*."""
        self._line.run(_identities().login_code(login, code))

    def logout(
        self,
        *,
        identity: "str | None" = None,
        instance: "str | None" = None,
        everyone: bool = False,
    ) -> "list[EndedSession]":
        """End sessions: those of an identity, of an instance, all, or else the default one."""
        call = _identities().logout(identity=identity, instance=instance, everyone=everyone)
        ended: list[EndedSession] = self._line.run(call)
        return ended

    def lock(self, passphrase: str) -> None:
        """Refuse to sign until unlock() brings the same passphrase."""
        self._line.run(_identities().lock("lock", passphrase))

    def unlock(self, passphrase: str) -> None:
        """Sign again."""
        self._line.run(_identities().lock("unlock", passphrase))

    # --- the daemon ---------------------------------------------------------------------------

    def status(self) -> "Status":
        """Return how the daemon is."""
        status: Status = self._line.run(_daemon_calls().status())
        return status

    def trust_status(self, instance: "str | None" = None) -> "list[InstanceState]":
        """Return the trust root in force for one instance, or for all."""
        call = _daemon_calls().trust("trust_status", instance)
        states: list[InstanceState] = self._line.run(call)
        return states

    def trust_refresh(self, instance: "str | None" = None) -> "list[InstanceState]":
        """Refresh the trust root of one instance, and return it.

        None is the instance of ``KEYLESS_INSTANCE``, else the daemon's default.
        """
        if instance is None:
            instance = _surroundings().instance_named(self._environ)
        call = _daemon_calls().trust("trust_refresh", instance)
        states: list[InstanceState] = self._line.run(call)
        return states

    def ledger(self, limit: "int | None" = None) -> "list[dict[str, Any]]":
        """Return the newest records of what this daemon signed, oldest first.

        One that a crash of the machine has torn has the ``event`` ``"torn"`` and its ``text``.
        """
        records: list[dict[str, Any]] = self._line.run(_daemon_calls().ledger(limit))
        return records

    def reload(self) -> None:
        """Make the daemon read its settings again."""
        self._line.run(_daemon_calls().reload())


def _identities() -> "ModuleType":
    # Not above: whoever signs or verifies should not pay for it.
    from keyless import _identities  # noqa: PLC0415

    return _identities


def _surroundings() -> "ModuleType":
    from keyless import _surroundings  # noqa: PLC0415

    return _surroundings


def _daemon_calls() -> "ModuleType":
    from keyless import _daemon_calls  # noqa: PLC0415

    return _daemon_calls
