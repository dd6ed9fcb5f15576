"""What a cluster takes."""

import os
from ipaddress import IPv4Interface

import pytest

from tests.simulator.namespaces import Namespace, NamespacesMissingError


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Network namespaces can be had. If not: an error where CI is set, else the tests are skipped."""
    try:
        namespace = Namespace(IPv4Interface("10.231.0.1/24"))
        try:
            assert namespace.through
        finally:
            namespace.close()
    except NamespacesMissingError as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
