"""What each role may be told, and where a gateway and its app meet."""

from pathlib import Path

import pytest

from jasaweb_rt import config_role
from jasaweb_rt.config import Settings, load_settings
from jasaweb_rt.exceptions import ConfigurationError
from tests.support.tokens import SECRET


def load(tmp_path: Path, **variables: str) -> Settings:
    environ = {"JASAWEB_RT_JWT_SECRET": SECRET} | {f"JASAWEB_RT_{name}": value for name, value in variables.items()}
    return load_settings(environ, None, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("given", "kept", "address"),
    [
        ("unix:/run/jasaweb/app.sock", "unix:/run/jasaweb/app.sock", None),
        ("http://app.internal:8001/", "http://app.internal:8001", ("app.internal", 8001)),
        ("http://[::1]:8001", "http://[::1]:8001", ("::1", 8001)),
    ],
)
def test_both_forms_of_an_address_are_read(
    tmp_path: Path, given: str, kept: str, address: tuple[str, int] | None
) -> None:
    settings = load(tmp_path, ROLE="gateway", APP_URL=given)
    assert settings.app_address == kept
    assert config_role.host_and_port(settings.app_address) == address


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("unix:app.sock", "wants the whole path"),
        ("unix:/run/", "wants the whole path"),
        ("unix:/" + "x" * 94, "the system allows 94"),
        ("/run/app.sock", "must be unix:/path/to/socket or http://host:port"),
        ("https://app:8001", "must be unix:"),
        ("http://app", "must be unix:"),
        ("http://app:0", "must be unix:"),
        ("http://app:x", "is not a URL"),
        ("http://app:8001/path", "must be unix:"),
        ("http://app:8001?x=1", "must be unix:"),
        ("http://me@app:8001", "must be unix:"),
    ],
)
def test_any_other_address_is_refused_with_the_mend(tmp_path: Path, given: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, ROLE="gateway", APP_URL=given)
    assert "JASAWEB_RT_APP_URL" in str(caught.value)
    assert words in str(caught.value)


def test_gateway_and_app_of_one_folder_meet_there(tmp_path: Path) -> None:
    places = {load(tmp_path, ROLE=role).app_address for role in ("gateway", "app")}
    assert places == {f"unix:{tmp_path}/app.sock"}


def test_a_folder_with_a_long_name_needs_an_address(tmp_path: Path) -> None:
    settings = load(tmp_path / ("x" * 94), ROLE="gateway")
    with pytest.raises(ConfigurationError, match="set it to a shorter one, such as unix:/run"):
        _ = settings.app_address


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"APP_URL": "http://127.0.0.1:1"}, "role 'all' is both; unset it, or set JASAWEB_RT_ROLE"),
        ({"ROLE": "app", "PORT": "8000"}, "JASAWEB_RT_PORT is of the front door"),
        ({"ROLE": "app", "HOST": "0.0.0.0"}, "JASAWEB_RT_HOST is of the front door"),  # noqa: S104  # refused
        ({"ROLE": "app", "APP_URL": "http://10.0.0.7:8001"}, "by JASAWEB_RT_TRUSTED_PROXIES"),
        ({"ROLE": "app", "APP_URL": "http://app.internal:8001"}, "by JASAWEB_RT_TRUSTED_PROXIES"),
    ],
)
def test_what_goes_with_another_role_is_refused(tmp_path: Path, variables: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, **variables)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "variables",
    [
        {"ROLE": "gateway", "PORT": "8000", "APP_URL": "http://10.0.0.7:8001"},
        {"ROLE": "app", "APP_URL": "http://10.0.0.7:8001", "TRUSTED_PROXIES": "10.0.0.0/24"},
        {"ROLE": "app", "APP_URL": "http://localhost:8001"},
        {"ROLE": "app", "APP_URL": "http://[::1]:8001"},
    ],
)
def test_what_goes_with_a_role_is_accepted(tmp_path: Path, variables: dict[str, str]) -> None:
    load(tmp_path, **variables)
