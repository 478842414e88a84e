"""What tests of SDKs share: a small stack of ours, and proxies in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fault_proxy import ProxyLoop
from tests.support.postgres import PostgresServer
from tests.support.small_stack import SmallStack, run_stack


@pytest.fixture(scope="module")
def stack(postgres_server: PostgresServer) -> Iterator[SmallStack]:
    """A door, a worker and their database, for one module."""
    with run_stack(postgres_server) as stack:
        yield stack


@pytest.fixture(scope="module")
def proxies() -> Iterator[ProxyLoop]:
    """Opens proxies that write down what passes, and do harm when told to."""
    with ProxyLoop() as proxies:
        yield proxies
