"""The thin client of keyless: names are loaded on first use, so that importing costs nothing.

import keyless

with keyless.Client() as client:
result = client.sign("artifact.tar.gz")
"""

from keyless._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyless._client import Client
    from keyless._gather import gather
    from keyless._identities import Ambient, EndedSession
    from keyless.errors import DaemonUnreachableError, KeylessError, VerificationError
    from keyless.states import Identity, InstanceState, Slot, Status
    from keyless.values import (
        AcceptedSigner,
        Certificate,
        Detached,
        Digest,
        Inspection,
        LogEntry,
        SignatureTime,
        SignResult,
        Thresholds,
        VerifyResult,
        Where,
    )
else:
    _HOME = {
        "Client": "keyless._client",
        "gather": "keyless._gather",
        "DaemonUnreachableError": "keyless.errors",
        "KeylessError": "keyless.errors",
        "VerificationError": "keyless.errors",
        "Ambient": "keyless._identities",
        "EndedSession": "keyless._identities",
        **dict.fromkeys(("Identity", "InstanceState", "Slot", "Status"), "keyless.states"),
    }

    def __getattr__(name):
        home = _HOME.get(name, "keyless.values" if name in __all__ else None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(__import__(home, fromlist=(name,)), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "AcceptedSigner",
    "Ambient",
    "Certificate",
    "Client",
    "DaemonUnreachableError",
    "Detached",
    "Digest",
    "EndedSession",
    "Identity",
    "Inspection",
    "InstanceState",
    "KeylessError",
    "LogEntry",
    "SignResult",
    "SignatureTime",
    "Slot",
    "Status",
    "Thresholds",
    "VerificationError",
    "VerifyResult",
    "Where",
    "__version__",
    "gather",
]
