"""The server's settings: where they come from, and what is refused before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mpcredit.errors import InvalidFile, KeyStoreError
from mpcredit.server.settings import OidcSettings, ServerSettings, is_loopback


def _write(directory: Path, *lines: str) -> Path:
    path = directory / "bank.toml"
    path.write_text('role = "institution"\n[server]\n' + "\n".join(lines) + "\n")
    return path


def test_load__nothing_given__serves_this_machine_alone(tmp_path: Path) -> None:
    settings = ServerSettings.load(_write(tmp_path))

    assert (settings.host, settings.port, settings.origin) == ("127.0.0.1", 8440, "http://127.0.0.1:8440")
    assert settings.database == f"sqlite:///{tmp_path / 'server.sqlite'}"
    assert not settings.tls
    assert not settings.secure
    assert settings.uvicorn()["proxy_headers"] is False


def test_load__no_table__is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "bank.toml"
    path.write_text('role = "institution"\n')

    assert ServerSettings.load(path).port == 8440


def test_load__environment_over_file_and_overrides_over_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, "port = 1001", 'language = "zh-CN"', "session_hours = 4")
    monkeypatch.setenv("MPCREDIT_SERVER_PORT", "1002")
    monkeypatch.setenv("MPCREDIT_SERVER_SESSION_HOURS", "5")

    settings = ServerSettings.load(path, session_hours=6)

    assert (settings.port, settings.language, settings.session_hours) == (1002, "zh-CN", 6)


def test_load__paths__are_relative_to_the_file(tmp_path: Path) -> None:
    settings = ServerSettings.load(
        _write(tmp_path, 'tls_certificate = "tls/cert.pem"', 'tls_key = "/etc/key.pem"', 'host = "0.0.0.0"')
    )

    assert settings.tls_certificate == tmp_path / "tls/cert.pem"
    assert settings.tls_key == Path("/etc/key.pem")
    assert settings.uvicorn()["ssl_certfile"] == str(tmp_path / "tls/cert.pem")
    assert settings.secure


def test_load__mutual_tls__demands_a_certificate(tmp_path: Path) -> None:
    settings = ServerSettings.load(
        _write(
            tmp_path,
            'tls_certificate = "c"',
            'tls_key = "k"',
            'tls_client_ca = "ca"',
            'public_url = "https://Bank.example:443/"',
        )
    )

    assert settings.uvicorn()["ssl_cert_reqs"] == 2
    assert settings.origin == "https://bank.example"
    assert settings.cookie_name == "__Host-mpcredit-443"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['host = "0.0.0.0"'], "plain HTTP is refused"),
        (['host = "192.0.2.1"'], "plain HTTP is refused"),
        (['public_url = "http://bank.example"'], "leaves this machine"),
        (['tls_key = "k"'], "come together"),
        (['tls_client_ca = "ca"'], "tls_client_ca needs"),
        (['tls_certificate = "c"', 'tls_key = "k"', 'public_url = "http://bank.example"'], "speaks TLS"),
        (['trusted_proxies = ["10.0.0.1"]', 'host = "0.0.0.0"'], "begins with https"),
        (['trusted_proxies = ["proxy"]'], "trusted_proxies"),
        (['public_url = "https://bank.example/path"'], "without a path"),
        (['public_url = "https://user:secret@bank.example"'], "name or password"),
        (["port = 0"], "port 0"),
        (["port = 70000"], "port"),
        (['limit_sign_in = "often"'], "rate such as"),
        (['database = "mysql://x"'], "sqlite"),
        (['database = "sqlite://"'], "database"),
        (['log_level = "loud"'], "log_level"),
        (['datbase = "x"'], "datbase"),
        (["session_hours = 0"], "session_hours"),
    ],
)
def test_load__wrong_line__is_refused_with_its_place(tmp_path: Path, lines: list[str], said: str) -> None:
    path = _write(tmp_path, *lines)

    with pytest.raises(InvalidFile, match=said) as caught:
        ServerSettings.load(path)

    assert str(path) in caught.value.place
    assert caught.value.remedy


def test_load__behind_a_proxy__may_listen_in_plain(tmp_path: Path) -> None:
    settings = ServerSettings.load(
        _write(
            tmp_path, 'host = "10.0.0.2"', 'trusted_proxies = ["10.0.0.0/24"]', 'public_url = "https://bank.example"'
        )
    )

    assert settings.secure
    assert not settings.tls


def test_secrets__never_shown(tmp_path: Path) -> None:
    path = _write(tmp_path, 'database = "postgresql://bank:hunter2@db/x"', "port = 70000")
    with pytest.raises(InvalidFile) as caught:
        ServerSettings.load(path)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None

    settings = ServerSettings.load(_write(tmp_path, 'database = "postgresql://bank:hunter2@db/x"'))
    assert settings.database == "postgresql+psycopg://bank:hunter2@db/x"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)


def test_session_secret__made_once__for_the_owner_only(tmp_path: Path) -> None:
    settings = ServerSettings.load(_write(tmp_path))

    secret = settings.session_secret()

    assert len(secret) == 32
    assert settings.session_secret() == secret
    assert settings.session_secret_file.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"bank.toml", "session.secret"}


@pytest.mark.parametrize(("content", "mode"), [("00" * 32, 0o640), ("xyz", 0o600), ("00", 0o600)])
def test_session_secret__damaged_or_readable__is_refused(tmp_path: Path, content: str, mode: int) -> None:
    settings = ServerSettings.load(_write(tmp_path))
    settings.session_secret_file.write_text(content)
    settings.session_secret_file.chmod(mode)

    with pytest.raises(KeyStoreError):
        settings.session_secret()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False),
     ("bank.example", False), ("127.0.0.1.evil.example", False), ("", False)],
)  # fmt: skip
def test_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


OIDC = {"issuer": "https://id.bank.example/realms/bank", "client_id": "mpcredit", "roles": {"Credit": "officer"}}


def test_load__oidc__from_the_file_with_its_paths(tmp_path: Path) -> None:
    settings = ServerSettings.load(
        _write(
            tmp_path,
            "[server.oidc]",
            'issuer = "https://id.bank.example/realms/bank"',
            'client_id = "mpcredit"',
            'client_secret_file = "oidc.secret"',
            'ca = "/etc/ca.pem"',
            "[server.oidc.roles]",
            '"Credit Officers" = "officer"',
            '"Revision" = ["auditor", "reviewer"]',
        )
    )

    oidc = settings.oidc
    assert oidc is not None
    assert (oidc.client_secret_file, oidc.ca) == (tmp_path / "oidc.secret", Path("/etc/ca.pem"))
    assert oidc.roles == {"Credit Officers": "officer", "Revision": ("auditor", "reviewer")}
    assert (oidc.label, oidc.confirm_roles, oidc.session_minutes) == ("id.bank.example", True, 120)
    with pytest.raises(KeyStoreError, match="cannot be read"):
        oidc.client_secret()
    assert oidc.client_secret_file is not None
    oidc.client_secret_file.write_text("s3cret\n")
    oidc.client_secret_file.chmod(0o640)
    with pytest.raises(KeyStoreError, match="others can read it"):
        oidc.client_secret()
    oidc.client_secret_file.chmod(0o600)
    assert oidc.client_secret() == "s3cret"
    oidc.client_secret_file.write_text("\n")
    with pytest.raises(KeyStoreError, match="is empty"):
        oidc.client_secret()


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"issuer": "http://id.bank.example"}, "plain HTTP is refused"),
        ({"issuer": "https://id.bank.example/?a=1"}, "must be https"),
        ({"issuer": "https://user:pass@id.bank.example"}, "must not hold a name"),
        ({"issuer": "id.bank.example"}, "must be https"),
        ({"client_id": ""}, "at least 1 character"),
        ({"roles": {}}, "at least 1 item"),
        ({"roles": {"Credit": "boss"}}, "officer"),
        ({"roles": {"All": ["officer", "administrator"]}}, "nobody is administrator and officer at once"),
        ({"scopes": ["profile"]}, 'must hold "openid"'),
        ({"session_minutes": 1}, "greater than or equal to 5"),
        ({"clientid": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_oidc__wrong__is_refused_with_its_line(changed: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        OidcSettings.model_validate(OIDC | changed)
    assert OidcSettings.model_validate(OIDC | {"issuer": "http://localhost:8080/realms/bank"})
