"""What a cluster takes."""

from ipaddress import IPv4Interface

import pytest

from tests.simulator.namespaces import Namespace, NamespacesMissingError


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Network namespaces can be had. If not, the tests are skipped, with what is missing: no package brings that."""
    try:
        namespace = Namespace(IPv4Interface("10.231.0.1/24"))
        try:
            assert namespace.through
        finally:
            namespace.close()
    except NamespacesMissingError as missing:
        pytest.skip(str(missing))
