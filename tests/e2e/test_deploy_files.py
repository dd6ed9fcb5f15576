"""The files of `deploy/` that no other test runs: units of systemd, their environment, settings of the kernel."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from jasaweb_rt.config import Settings, load_settings, max_connections_for
from tests.support.people import SECRET

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PROGRAM = "/opt/jasaweb-rt/bin/jasaweb-rt"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The environment file, with the keys that it names in files of the test."""
    environ = {name: value or "" for name, value in dotenv_values(DEPLOY / "systemd" / "environment").items()}
    for name, value in environ.items():
        if name.endswith("_FILE"):
            file = tmp_path / Path(value).name
            file.write_text("" if "PREVIOUS" in name else SECRET)
            environ[name] = str(file)
    return load_settings(environ, None, data_dir=tmp_path)


def said(unit: Path, name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)
    return str(value)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_unit(tmp_path: Path, unit: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # It looks for the program, too.
    text = unit.read_text()
    assert PROGRAM in text
    copy = tmp_path / unit.name
    copy.write_text(text.replace(PROGRAM, str(Path(sys.executable).with_name("jasaweb-rt"))))
    answer = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=60, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_and_settings_go_together(unit: Path, settings: Settings) -> None:
    # Beyond the time of a stop: what the embedded PostgreSQL may take behind it.
    assert int(said(unit, "TimeoutStopSec")) >= settings.drain_seconds + 15
    assert settings.max_connections <= max_connections_for(int(said(unit, "LimitNOFILE")))
    assert said(unit, "RestartPreventExitStatus") == "2"
    assert said(unit, "EnvironmentFile") == "/etc/jasaweb-rt/environment"


def test_the_kernel_knows_the_settings() -> None:
    lines = (DEPLOY / "sysctl" / "90-jasaweb-rt.conf").read_text().splitlines()
    names = [line.split(" = ")[0] for line in lines if line and not line.startswith("#")]
    assert names
    for name in names:
        assert (Path("/proc/sys") / name.replace(".", "/")).exists(), name
