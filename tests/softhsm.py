"""SoftHSM tokens for the tests: a token in software behind the same PKCS#11 interface as a token in hardware.

Each test run has a directory of tokens of its own. SoftHSM reads its place from the environment, so it is set for this
process while there are tests that use it; processes of parties get it with the variables of `Token.variables`.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpcredit.pkcs11keys import Pkcs11Keys, TokenPlace, _Library

MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
    Path("/opt/homebrew/lib/softhsm/libsofthsm2.so"),
)
SO_PIN = "public-so-pin"


def why_missing() -> str | None:
    """What is missing for tests with a token, and how to get it."""
    if importlib.util.find_spec("PyKCS11") is None:
        return "PyKCS11 is not installed: pip install 'mpcredit[pkcs11]'"
    if module() is None or shutil.which("softhsm2-util") is None:
        return "SoftHSM is not installed: run `apt-get install softhsm2` as root"
    return None


def module() -> Path | None:
    """The PKCS#11 library of SoftHSM."""
    return next((path for path in MODULES if path.exists()), None)


@dataclass(frozen=True)
class Token:
    """An initialised token."""

    home: SoftHsm
    label: str
    pin: str

    @property
    def place(self) -> TokenPlace:
        """Where mpcredit finds it."""
        return TokenPlace(self.home.module, self.label)

    def keys(self, pin: Callable[[str], str] | None = None, **changed: str) -> Pkcs11Keys:
        """The adapter for it, with its PIN."""
        place = TokenPlace(self.home.module, **{"token": self.label, **changed})
        return Pkcs11Keys(place, pin or (lambda _purpose: self.pin))

    @property
    def table(self) -> str:
        """Its table of a configuration."""
        return f'[keys.pkcs11]\nmodule = "{self.home.module}"\ntoken = "{self.label}"\n'

    @property
    def variables(self) -> dict[str, str]:
        """Of a process that uses it."""
        return {"SOFTHSM2_CONF": str(self.home.config), "MPCREDIT_TOKEN_PIN": self.pin}


class SoftHsm:
    """A directory of tokens."""

    def __init__(self, directory: Path) -> None:
        found = module()
        assert found is not None
        self.module, self.directory = found, directory
        self.tokens = directory / "tokens"
        self.tokens.mkdir(parents=True)
        self.config = directory / "softhsm2.conf"
        self.config.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n", encoding="utf-8"
        )
        self._made = 0

    def token(self, label: str | None = None) -> Token:
        """Make a token."""
        self._made += 1
        token = Token(self, label or f"token {self._made}", f"Wk4~{secrets.token_hex(6)}~pin")
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", token.label, "--pin", token.pin, "--so-pin", SO_PIN],
            env={**os.environ, "SOFTHSM2_CONF": str(self.config)},
            check=True,
            capture_output=True,
        )
        self.restart()
        return token

    def restart(self) -> None:
        """End the library behind everybody's back: all sessions and object numbers are void, as after a token's restart."""
        library = _Library.of(self.module)
        with library.lock:
            if library._lib is not None:
                library._lib.lib.C_Finalize()

    def place_of(self, label: str) -> Path:
        """The directory of a token, found by its label inside."""
        return next(p for p in self.tokens.iterdir() if label.encode() in (p / "token.object").read_bytes())
