from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.fault_server import FaultServer


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A scripted chat server; answers everything unless the test scripts it."""
    with FaultServer() as running:
        yield running
