"""What a short-lived client loads: a test on names, since a test on time would not be one."""

import subprocess
import sys

import pytest

import keyless

# Each costs more than all of the client's own modules together, or drags in one that does.
HEAVY = set(
    """
    argparse asyncio base64 collections contextlib dataclasses datetime email enum functools
    hashlib importlib.metadata inspect json logging msgpack pathlib pickle random re select
    selectors shutil signal socket ssl string struct subprocess tempfile threading traceback trio
    typing urllib uuid warnings cryptography httpx keylessd tuf
    """.split()  # noqa: SIM905  # sixty quotes fewer
)

SIGN = """
import sys
before = set(sys.modules)
import keyless
from keyless.errors import KeylessError
client = keyless.Client(socket_path="{path}", environ={{}}, autostart=False)
with client:
    print(client.sign("{file}").identity)
    print(client.verify("{file}", b"{{}}", key=b"PEM").steps[0])
print(*sorted(set(sys.modules) - before))
"""


def loaded(program):
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_signing_and_verifying_load_nothing_heavy(tmp_path):
    from fakedaemon import fake_daemon

    (tmp_path / "f").write_bytes(b"x" * 1000)
    path = str(tmp_path / "s")
    with fake_daemon(path):
        *said, modules = loaded(SIGN.format(path=path, file=tmp_path / "f"))
    assert said == ["dev@example.com", "certificate-chain"]
    names = set(modules.split())
    assert "keyless._client" in names
    assert not HEAVY & names
    own = {name for name in names if name.startswith("keyless")}
    assert len(own) <= 26  # each costs a tenth of a millisecond


def test_importing_the_package_loads_nothing():
    (modules,) = loaded(
        "import sys; before = set(sys.modules); import keyless; print(*set(sys.modules) - before)"
    )
    assert set(modules.split()) == {"keyless", "keyless._version"}


@pytest.mark.parametrize("name", keyless.__all__)
def test_every_name_is_there(name):
    assert getattr(keyless, name) is getattr(keyless, name)
    assert name in dir(keyless)


def test_other_names_are_not():
    with pytest.raises(AttributeError):
        _ = keyless.Clinet
