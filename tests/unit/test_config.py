"""Settings: names, values, files and secrets, and what is said when they are wrong."""

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.pretty import pretty_repr

from jasaweb_rt.config import Settings, load_settings, max_connections_for
from jasaweb_rt.config_source import without_password
from jasaweb_rt.exceptions import ConfigurationError

SECRET = "s" * 32


def load(folder: Path, dotenv: str | None = None, **environ: str) -> Settings:
    file = folder / ".env"
    if dotenv is not None:
        file.write_text(dotenv)
    return load_settings(environ, file, data_dir=folder / ".jasaweb")


def test_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (settings.host, settings.port, settings.session_cookie) == ("127.0.0.1", 8000, "auth_token")
    assert (settings.max_connections_per_user, settings.max_connections_per_ip) == (10, 100)
    assert (settings.connect_rate_per_ip, settings.connect_burst_per_ip) == (20, 100)
    assert (settings.message_rate, settings.message_burst, settings.max_message_bytes) == (20, 50, 65536)
    assert (settings.send_queue_bytes, settings.coalesce_ms, settings.drain_seconds) == (1048576, 10, 10)
    assert settings.compress_min_bytes == 512
    assert (settings.ping_interval, settings.pong_timeout) == (25, 10)
    assert settings.database_url is None
    assert settings.metrics_networks == ("127.0.0.0/8", "::1/128")
    assert settings.max_connections > 0


def test_values_are_converted(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        DATABASE_URL="postgresql://u:p@db/x",
        JASAWEB_RT_PORT="0",
        JASAWEB_RT_PONG_TIMEOUT="2.5",
        JASAWEB_RT_REQUIRE_TLS="false",
        JASAWEB_RT_WORKERS="3",
        JASAWEB_RT_MAX_CONNECTIONS="0",
        JASAWEB_RT_PUBLIC_URL="https://rt.example.org/",
        JASAWEB_RT_ALLOWED_ORIGINS="https://A.example.org, http://localhost:3000,",
        JASAWEB_RT_TRUSTED_PROXIES="10.0.0.0/8,192.0.2.7",
    )
    assert (settings.port, settings.pong_timeout, settings.require_tls, settings.workers) == (0, 2.5, False, 3)
    assert settings.max_connections == 0
    assert settings.public_url == "https://rt.example.org"
    assert settings.allowed_origins == ("https://a.example.org", "http://localhost:3000")
    assert settings.trusted_proxies == ("10.0.0.0/8", "192.0.2.7/32")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, "JASAWEB_RT_PORT=1\nJASAWEB_RT_HOST='::1'\nOTHER=x\n", JASAWEB_RT_PORT="2")
    assert (settings.port, settings.host) == (2, "::1")


def test_an_unknown_name_in_the_file_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="JASAWEB_RT_PROT is not a setting"):
        load(tmp_path, "JASAWEB_RT_PROT=1\n")


def test_an_empty_value_is_none(tmp_path: Path) -> None:
    settings = load(tmp_path, JASAWEB_RT_NATS_URL="", DATABASE_URL=" ")
    assert (settings.nats_url, settings.database_url) == ((), None)


def test_servers_of_a_cluster_are_a_list_and_nobody_sees_how_to_enter(tmp_path: Path) -> None:
    settings = load(tmp_path, JASAWEB_RT_NATS_URL="nats://10.0.0.5:4222, tls://u:pa,ss@b,nats://a-token@c")
    assert settings.nats_url == ("nats://10.0.0.5:4222", "tls://u:pa,ss@b", "nats://a-token@c")
    assert "nats_url=('nats://10.0.0.5:4222', 'tls://***@b', 'nats://***@c')" in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("JASAWEB_RT_PROT", "1", "did you mean JASAWEB_RT_PORT?"),
        ("JASAWEB_RT_DATABASE_URL", "x", "did you mean DATABASE_URL, without the prefix?"),
        ("JASAWEB_RT_QQQQQQQQQQ", "x", "remove it"),
        ("JASAWEB_RT_PORT", "abc", "JASAWEB_RT_PORT is 'abc', but must be a whole number from 0 to 65535."),
        ("JASAWEB_RT_PORT", "70000", "a whole number from 0 to 65535"),
        ("JASAWEB_RT_WORKERS", "0", "a whole number from 1 to 1024"),
        ("JASAWEB_RT_PING_INTERVAL", "0", "a number above 0 up to 86400"),
        ("JASAWEB_RT_PING_INTERVAL", "nan", "a number above 0 up to 86400"),
        ("JASAWEB_RT_DRAIN_SECONDS", "-1", "a number from 1 up to 3600"),
        ("JASAWEB_RT_REQUIRE_TLS", "perhaps", "true or false"),
        ("JASAWEB_RT_MESSAGE_LOG", "all", "'durable' or 'off'"),
        ("DATABASE_URL", "mysql://x", "must begin with postgresql://"),
        ("JASAWEB_RT_PUBLIC_URL", "rt.example.org", "plain URL"),
        ("JASAWEB_RT_PUBLIC_URL", "https://a:b/", "not a URL"),
        ("JASAWEB_RT_ALLOWED_ORIGINS", "https://a.org/path", "scheme, host and port alone"),
        ("JASAWEB_RT_TRUSTED_PROXIES", "10.0.0.1/8", "networks such as 10.0.0.0/8"),
        ("JASAWEB_RT_SESSION_COOKIE", "a b", "no blanks"),
        ("JASAWEB_RT_NATS_URL", "http://x", "must list URLs such as nats://"),
        ("JASAWEB_RT_NATS_URL", "nats://a,b", "must list URLs such as nats://"),
        ("JASAWEB_RT_NATS_URL", "nats://a:x", "must list URLs such as nats://"),
        ("JASAWEB_RT_NATS_URL", "nats://u:p@ss@a", "percent-encode"),
        ("JASAWEB_RT_NATS_CREDENTIALS", "/a/file", "is set without JASAWEB_RT_NATS_URL"),
        ("JASAWEB_RT_NATS_CA", "/a/file", "is set without JASAWEB_RT_NATS_URL"),
        ("JASAWEB_RT_ROLE", "king", "'all' or 'app' or 'gateway'"),
        ("JASAWEB_RT_JWT_SECRET", "short", "JASAWEB_RT_JWT_SECRET is too short: 5 bytes"),
        ("JASAWEB_RT_JWT_SECRET", "", "JASAWEB_RT_JWT_SECRET is empty"),
        ("JASAWEB_RT_TOKEN_SECRET", "short", "JASAWEB_RT_TOKEN_SECRET is too short"),
        ("JASAWEB_RT_JWT_SECRET_FILE", "/does/not/exist", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_named_with_its_mend(tmp_path: Path, name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, **{name: value})
    assert name in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("password", ["ab/cd", "12/cd", "ab?cd", "ab#cd", "12#cd", "ab@cd", "ab[cd", "ab\u2100cd"])
def test_no_part_of_a_password_is_told(tmp_path: Path, password: str) -> None:
    url = f"postgresql://u:{password}@h/d"
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not a URL: percent-encode") as caught:
        load(tmp_path, DATABASE_URL=url)
    assert not {password[:2], password[-2:]} & set(re.findall(r"\w+", str(caught.value)))
    assert "***" in repr(Settings(jwt_secret=SECRET, token_secret=SECRET, database_url=url))
    assert password[-2:] not in without_password(url)


def test_a_comma_of_a_password_is_hidden_with_it() -> None:
    assert without_password("postgresql://u:ab,cd@h/d") == "postgresql://u:***@h/d"


@pytest.mark.parametrize(("name", "value"), [("ROLE", "gateway"), ("MESSAGE_LOG", "off")])
def test_what_this_version_can_honour_is_accepted(tmp_path: Path, name: str, value: str) -> None:
    load(tmp_path, **{f"JASAWEB_RT_{name}": value})


def test_a_secret_is_generated_once_and_kept_private(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = {settings.jwt_secret for settings in pool.map(lambda _: load(tmp_path), range(16))}
    assert len(found) == 1
    folder = tmp_path / ".jasaweb"
    assert [path.name for path in folder.iterdir()] == ["jwt_secret"]
    assert stat.S_IMODE((folder / "jwt_secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nothing_is_generated_where_a_secret_is_configured(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    assert load(tmp_path, JASAWEB_RT_JWT_SECRET=SECRET) == load(tmp_path, JASAWEB_RT_JWT_SECRET_FILE=str(file))
    assert not (tmp_path / ".jasaweb").exists()
    with pytest.raises(ConfigurationError, match="both set"):
        load(tmp_path, JASAWEB_RT_JWT_SECRET=SECRET, JASAWEB_RT_JWT_SECRET_FILE=str(file))


def test_a_folder_that_cannot_be_written_asks_for_the_variable(tmp_path: Path) -> None:
    (tmp_path / ".jasaweb").write_text("in the way")
    with pytest.raises(ConfigurationError, match="set it to 32 bytes"):
        load(tmp_path)


def test_the_token_secret_is_derived_and_differs(tmp_path: Path) -> None:
    settings = load(tmp_path, JASAWEB_RT_JWT_SECRET=SECRET)
    assert len({settings.jwt_secret, settings.token_secret, settings.keys.csrf_secret}) == 3
    assert settings.token_secret == load(tmp_path, JASAWEB_RT_JWT_SECRET=SECRET).token_secret
    own = load(tmp_path, JASAWEB_RT_JWT_SECRET=SECRET, JASAWEB_RT_TOKEN_SECRET="t" * 40)
    assert own.token_secret == "t" * 40


@pytest.mark.parametrize("show", [repr, str, pretty_repr])
def test_secrets_do_not_show(tmp_path: Path, show: object) -> None:
    assert callable(show)
    settings = load(
        tmp_path,
        JASAWEB_RT_JWT_SECRET="very-secret-" + SECRET,
        JASAWEB_RT_TOKEN_SECRET_PREVIOUS="very-secret-" + SECRET,
        DATABASE_URL="postgresql://user:very-secret-@db/x",
        JASAWEB_RT_MIGRATE_URL="postgresql://db/x?user=u&password=very-secret-",
        JASAWEB_RT_MIDTRANS_SERVER_KEY="very-secret-key",
    )
    assert settings.midtrans_server_key == "very-secret-key"
    assert "very-secret-" not in show(settings)
    assert settings.token_secret not in show(settings)
    assert "***" in show(settings)


def test_connections_leave_room_for_other_files() -> None:
    assert max_connections_for(1024) == 768
    assert max_connections_for(65536) == 64512
    assert max_connections_for(1) == 1
    assert max_connections_for(-1) == 0
