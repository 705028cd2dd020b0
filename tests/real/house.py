"""keyless as processes in front of the real stack: its daemon, its command, its settings."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.real.clients import Expected
from tests.real.services import EMAIL
from tests.real.stack import Stack
from tests.real.trust import TRUSTED_ROOT, Repository

from standing import Standing


class RealHouse(Standing):
    """A daemon with an instance per signing configuration, and one from the TUF repository.

    The instances are called as the configurations are (``v1``, ``v2-all``, ...), the one from
    the repository ``tuf``. Signs as Dex's person unless told otherwise.
    """

    def __init__(self, stack: Stack, name: str = "house", repository: Repository | None = None):
        super().__init__(stack.directory / name)
        self.stack = stack
        self.who = Expected(EMAIL, stack.urls.dex)
        repository = repository or stack.repository
        text = f'[instance.tuf]\ntuf_url = "{repository.url}"\ntuf_root = "{repository.root}"\n'
        root = stack.trust / TRUSTED_ROOT
        for config in sorted(stack.trust.glob("signing-*.json")):
            instance = config.stem.removeprefix("signing-")
            text += f'[instance.{instance}]\ntrusted_root = "{root}"\nsigning_config = "{config}"\n'
        folder = self.directory / "config" / "keyless"
        folder.mkdir(parents=True)
        self.config = folder / "config.toml"
        self.config.write_text(text)
        self.environ["KEYLESS_INSTANCE"] = "v2"

    def keyless(
        self, *words: str | Path, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command, with a token of Dex."""
        return super().keyless(*words, environ={**self._token(), **(environ or {})})

    def start(
        self, *words: str | Path, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start one command, with a token of Dex."""
        return super().start(*words, environ={**self._token(), **(environ or {})})

    def sign(self, instance: str, *words: str | Path, **environ: str) -> None:
        """Sign files with an instance; fails the test if that does not succeed."""
        done = self.keyless("sign", "--instance", instance, *words, environ=environ)
        assert done.returncode == 0, done.stderr

    def attest(self, instance: str, *words: str | Path, **environ: str) -> None:
        """Attest with an instance; fails the test if that does not succeed."""
        done = self.keyless("attest", "--instance", instance, *words, environ=environ)
        assert done.returncode == 0, done.stderr

    def verify(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Verify with Dex's person expected."""
        return self.verify_as(self.who, *words)

    def verify_as(self, who: Expected, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Verify with a signer expected."""
        return self.keyless(
            *("verify", "--certificate-identity", who.identity),
            *("--certificate-oidc-issuer", who.issuer, *words),
        )

    def _token(self) -> dict[str, str]:
        return {"SIGSTORE_ID_TOKEN": self.stack.dex_token()}


class Keyless:
    """keyless as a judge like the others."""

    name = "keyless"
    version = "this checkout"

    def __init__(self, house: RealHouse) -> None:
        self._house = house

    def refusal(
        self, bundle: Path, artifact: Path, expected: Expected, *, attestation: bool = False
    ) -> str | None:
        """Return why it refuses, or None if it accepts."""
        words: list[str | Path] = ["--bundle", bundle, artifact]
        if attestation:
            words = ["--type", "https://keyless.test/predicate/v1", *words]
        return self._judge(self._house.verify_as(expected, *words))

    def key_refusal(self, bundle: Path, artifact: Path, key: Path) -> str | None:
        """Judge a bundle of a managed key."""
        return self._judge(
            self._house.keyless("verify", "--key", key, "--bundle", bundle, artifact)
        )

    def words_refusal(
        self, words: Sequence[str | Path], artifact: Path, expected: Expected | Path
    ) -> str | None:
        """Judge what *words* of the command name.

        Args:
            words: Options.
            artifact: The file.
            expected: The signer, or the file of a key.
        """
        if isinstance(expected, Path):
            return self._judge(self._house.keyless("verify", "--key", expected, *words, artifact))
        return self._judge(self._house.verify_as(expected, *words, artifact))

    def _judge(self, done: subprocess.CompletedProcess[str]) -> str | None:
        if done.returncode == 0:
            return None
        # 1 is the status for what is not verified; anything else is no judgement.
        assert done.returncode == 1, done.stderr
        return done.stderr.strip()
