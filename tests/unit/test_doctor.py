"""What a doctor says of settings, certificates and limits that are not fit, and of those that are."""

import calendar
import re
import resource
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from jasaweb_rt.config import Settings, load_settings
from jasaweb_rt.doctor import certificate, configuration, limits
from jasaweb_rt.doctor.findings import Finding
from tests.support.certificates import CertificateFiles

SECRET = "s" * 32
TLS = Path(__file__).parents[1] / "data" / "tls"
ROOT = Path(__file__).parents[2]
EVERYWHERE = "0.0.0.0"  # noqa: S104  # nothing listens in these tests
IDLE = {
    "proc/sys/net/core/somaxconn": "4096",
    "proc/sys/net/ipv4/tcp_max_syn_backlog": "4096",
    "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999",
    "proc/sys/net/ipv4/ip_local_reserved_ports": "",
    "proc/sys/net/netfilter/nf_conntrack_max": "262144",
    "proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n",
    "sys/fs/cgroup/memory.max": "max",
    "sys/fs/cgroup/memory.current": "1000",
}
"""A machine that is fit."""


def configured(folder: Path, **settings: str) -> configuration.Configuration:
    environ = {f"JASAWEB_RT_{name}": value for name, value in ({"JWT_SECRET": SECRET} | settings).items() if value}
    return configuration.look(environ, folder / ".env")


def settings_of(folder: Path, **settings: str) -> Settings:
    environ = {f"JASAWEB_RT_{name}": value for name, value in ({"JWT_SECRET": SECRET} | settings).items()}
    return load_settings(environ, None, data_dir=folder / ".jasaweb")


def machine(folder: Path, **files: str) -> Path:
    """A root with `IDLE`, in which some files, named by their last part, say something else."""
    for name, content in IDLE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(files.get(name.rpartition("/")[2].replace(".", "_"), content) + "\n")
    return folder


def told(findings: Iterable[Finding], verdict: str) -> list[str]:
    return [finding.text for finding in findings if finding.verdict == verdict]


def only(findings: Iterable[Finding], verdict: str, pattern: str) -> None:
    """Of this verdict there is one finding, and it is like that; of others none but `ok`."""
    findings = list(findings)
    (text,) = told(findings, verdict)
    assert re.search(pattern, text), text
    assert {finding.verdict for finding in findings} <= {verdict, "ok"}, findings


def test_settings_that_are_fit(tmp_path: Path) -> None:
    findings = configured(tmp_path).findings
    assert [str(finding) for finding in findings] == [
        "ok      configuration: every setting is known and can be used",
        "ok      configuration: 127.0.0.1: this machine alone can reach it",
    ]


def test_an_application_has_no_front_door(tmp_path: Path) -> None:
    findings = configured(tmp_path, ROLE="app", APP_URL=f"unix:{tmp_path}/app.sock").findings
    assert told(findings, "ok")[1:] == [f"an application, to which gateways come at unix:{tmp_path}/app.sock"]
    assert {finding.verdict for finding in findings} == {"ok"}


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    found = configured(tmp_path, PROT="1", HOTS="x", JWT_SECRET="short", PORT="many", NATS_CA="", TOKEN_SECRET="brief")
    assert found.refused == {f"JASAWEB_RT_{name}" for name in ("PROT", "HOTS", "JWT_SECRET", "PORT", "TOKEN_SECRET")}
    texts = told(found.findings, "wrong")
    assert len(texts) == 5
    assert "JASAWEB_RT_HOTS is not a setting; did you mean JASAWEB_RT_HOST?" in texts
    assert any("JASAWEB_RT_JWT_SECRET is too short" in text for text in texts)
    assert found.settings is not None
    assert found.settings.port == 8000
    assert told(found.findings, "ok") == ["127.0.0.1: this machine alone can reach it"]


def test_a_file_of_settings_counts_and_must_be_readable(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("JASAWEB_RT_PROT=1\n")
    file.chmod(0o600)
    only(configured(tmp_path).findings, "wrong", "JASAWEB_RT_PROT is not a setting")
    file.write_bytes(b"JASAWEB_RT_HOST=\xff\n")
    assert "cannot be read" in told(configured(tmp_path).findings, "wrong")[0]
    assert configured(tmp_path).settings is None


def test_without_a_secret_of_the_site_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    only(configured(tmp_path, JWT_SECRET="").findings, "advice", "JASAWEB_RT_JWT_SECRET.* set the site's")
    twice = told(configured(tmp_path, JWT_SECRET_FILE=str(tmp_path / "none")).findings, "wrong")
    assert twice[0] == "JASAWEB_RT_JWT_SECRET and JASAWEB_RT_JWT_SECRET_FILE are both set; keep one of them"
    assert "JASAWEB_RT_JWT_SECRET_FILE names a file that cannot be read" in twice[1]
    assert list(tmp_path.iterdir()) == []


def test_a_secret_in_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    found = configured(tmp_path, JWT_SECRET="", JWT_SECRET_FILE=str(tmp_path / "none"))
    only(found.findings, "wrong", "JASAWEB_RT_JWT_SECRET_FILE names a file that cannot be read")


def test_files_with_secrets_are_for_their_owner(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    only(
        configured(tmp_path, TOKEN_SECRET_FILE=str(secret)).findings,
        "advice",
        f"everybody on this machine can read {secret}; chmod o=",
    )
    secret.chmod(0o600)
    assert told(configured(tmp_path, TOKEN_SECRET_FILE=str(secret)).findings, "advice") == []


def test_tls_files_that_do_not_fit(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path)
    files.key.write_bytes((TLS / "second.key").read_bytes())
    files.key.chmod(0o600)
    found = configured(tmp_path, TLS_CERT=str(files.cert), TLS_KEY=str(files.key))
    only(found.findings, "wrong", "JASAWEB_RT_TLS_")
    only(configured(tmp_path, TLS_CERT=str(files.cert)).findings, "wrong", "JASAWEB_RT_TLS_")
    only(configured(tmp_path, TLS_CERT="/none", TLS_KEY="/none").findings, "wrong", "JASAWEB_RT_TLS_CERT")


@pytest.mark.parametrize(
    ("settings", "verdict", "pattern"),
    [
        ({"HOST": EVERYWHERE}, "wrong", r"on 0\.0\.0\.0 every WebSocket is refused by 403"),
        ({"REQUIRE_TLS": "true"}, "wrong", r"on 127\.0\.0\.1 every WebSocket is refused"),
        ({"HOST": EVERYWHERE, "REQUIRE_TLS": "false"}, "advice", "travel in the clear"),
        ({"PUBLIC_URL": "https://rt.example.org"}, "wrong", "JASAWEB_RT_PUBLIC_URL says https.*TRUSTED_PROXIES"),
        ({"HOST": EVERYWHERE, "TRUSTED_PROXIES": "0.0.0.0/0"}, "advice", "trusts everybody"),
        ({"ALLOWED_ORIGINS": "*"}, "advice", "ALLOWED_ORIGINS is"),
        ({"HOST": "no-address"}, "wrong", "JASAWEB_RT_HOST"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, settings: dict[str, str], verdict: str, pattern: str) -> None:
    only(configured(tmp_path, **settings).findings, verdict, pattern)


def test_a_public_url_that_our_own_tls_does_not_answer(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path)
    files.key.chmod(0o600)
    own = {"HOST": EVERYWHERE, "TLS_CERT": str(files.cert), "TLS_KEY": str(files.key)}
    assert told(configured(tmp_path, **own).findings, "ok")[-1] == "0.0.0.0: TLS by us"
    only(configured(tmp_path, **own, PUBLIC_URL="http://rt.test").findings, "wrong", "PUBLIC_URL says http,")
    assert told(configured(tmp_path, **own, PUBLIC_URL="https://rt.test").findings, "wrong") == []


def test_behind_a_trusted_proxy(tmp_path: Path) -> None:
    findings = configured(
        tmp_path, HOST=EVERYWHERE, TRUSTED_PROXIES="10.0.0.0/8", PUBLIC_URL="https://rt.example.org"
    ).findings
    assert told(findings, "ok")[-1] == "0.0.0.0: TLS by a trusted proxy"
    assert told(findings, "wrong") == told(findings, "advice") == []


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A server whose certificate this machine believes."""
    files = CertificateFiles(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.cert))
    return settings_of(tmp_path, TLS_CERT=str(files.cert), TLS_KEY=str(files.key), PUBLIC_URL="https://rt.test")


def test_no_certificate_says_nothing(tmp_path: Path) -> None:
    assert list(certificate.look(settings_of(tmp_path))) == []


def test_a_certificate_that_is_fit(tls: Settings) -> None:
    (finding,) = certificate.look(tls)
    assert (finding.verdict, finding.text) == ("ok", f"{tls.tls_cert} is valid until Jan  1 00:00:00 2120 GMT")


@pytest.mark.parametrize(
    ("date", "verdict", "pattern"),
    [
        ((2120, 1, 1), "wrong", "has expired"),
        ((2019, 12, 31), "wrong", "is not valid yet"),
        ((2119, 12, 25), "advice", "expires in 7 days; renew it"),
        ((2119, 12, 10), "ok", "is valid until"),
    ],
)
def test_the_days_of_a_certificate(tls: Settings, date: tuple[int, int, int], verdict: str, pattern: str) -> None:
    only(certificate.look(tls, calendar.timegm((*date, 0, 0, 0))), verdict, pattern)


def test_a_certificate_for_another_name(tls: Settings) -> None:
    (wrong,) = told(
        certificate.look(msgspec.structs.replace(tls, public_url="https://rt.example.org")),
        "wrong",
    )
    assert re.search(r"is for localhost, rt\.test.* and not for rt\.example\.org", wrong)


def test_a_certificate_that_nobody_knows(tls: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "second.crt"))
    only(certificate.look(tls), "advice", "no authority that this machine knows")


def test_a_machine_that_is_fit(tmp_path: Path) -> None:
    findings = list(limits.look(settings_of(tmp_path, MAX_CONNECTIONS="100"), machine(tmp_path)))
    assert {finding.verdict for finding in findings} <= {"ok", "advice"}
    assert "net.core.somaxconn is 4,096" in told(findings, "ok")
    assert "100 idle connections take 151 MiB of 7,812 MiB available" in told(findings, "ok")


@pytest.fixture
def descriptors() -> int:
    """How many this process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_more_connections_than_descriptors(tmp_path: Path, descriptors: int) -> None:
    found = limits.look(settings_of(tmp_path, MAX_CONNECTIONS=str(descriptors)), machine(tmp_path))
    assert re.search(rf"{descriptors:,} connections are allowed, and .* LimitNOFILE=", told(found, "wrong")[0])
    found = limits.look(settings_of(tmp_path, MAX_CONNECTIONS="0"), machine(tmp_path))
    assert any("JASAWEB_RT_MAX_CONNECTIONS is off" in text for text in told(found, "advice"))


@pytest.mark.parametrize(
    ("files", "settings", "pattern"),
    [
        ({"somaxconn": "128"}, {}, r"somaxconn is 128, .*sysctl -w net\.core\.somaxconn=4096"),
        ({"tcp_max_syn_backlog": "256"}, {}, r"sysctl -w net\.ipv4\.tcp_max_syn_backlog=1024"),
        ({}, {"PORT": "40000"}, r"port 40000 .*ip_local_reserved_ports=40000"),
        (
            {"ip_local_port_range": "60000 60099"},
            {"TRUSTED_PROXIES": "127.0.0.1"},
            "a proxy on this machine has 100 ports",
        ),
        ({"nf_conntrack_max": "249"}, {}, r"nf_conntrack_max is 249, and 200 .*nf_conntrack_max=250"),
        ({"nf_conntrack_max": "300"}, {"TRUSTED_PROXIES": "10.0.0.0/8"}, r"and 400 connections"),
        ({"meminfo": "MemAvailable: 200000 kB"}, {}, r"stops reading, they take up to .*SEND_QUEUE_BYTES"),
    ],
)
def test_what_a_machine_could_do_better(
    tmp_path: Path, files: dict[str, str], settings: dict[str, str], pattern: str
) -> None:
    settings = {"MAX_CONNECTIONS": "200", "SEND_QUEUE_BYTES": "100000000"} | settings
    found = told(limits.look(settings_of(tmp_path, **settings), machine(tmp_path, **files)), "advice")
    assert any(re.search(pattern, text) for text in found), found


@pytest.mark.parametrize(
    "files",
    [
        {"meminfo": "MemAvailable: 160000 kB"},
        {"memory_max": "170000000", "memory_current": "1000000"},
    ],
)
def test_more_connections_than_memory(tmp_path: Path, files: dict[str, str]) -> None:
    given = settings_of(tmp_path, MAX_CONNECTIONS="10000")
    found = told(limits.look(given, machine(tmp_path, **files)), "wrong")
    assert any(re.search(r"10,000 idle connections take 20\d MiB, and .* lower", text) for text in found), found
    # Of those that nobody has asked for, it is only said.
    given = settings_of(tmp_path)
    assert told(limits.look(given, machine(tmp_path, meminfo="MemAvailable: 9 kB")), "wrong") == []


def test_a_reserved_port_is_ours(tmp_path: Path) -> None:
    given = settings_of(tmp_path, PORT="40000")
    found = limits.look(given, machine(tmp_path, ip_local_reserved_ports="39000,39990-40010"))
    assert not any("port 40000" in text for text in told(found, "advice"))


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert len(list(limits.look(settings_of(tmp_path), tmp_path))) == 1


def test_the_backlog_is_the_cores() -> None:
    source = (ROOT / "rust_core/src/listener.rs").read_text()
    assert f"const BACKLOG: i32 = {limits.BACKLOG};" in source
