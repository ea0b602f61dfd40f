"""What every test may ask for; the fixtures themselves are in named files."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "fixtures.servers",
    "fixtures.databases",
    "fixtures.tenants",
    "fixtures.caches",
    "fixtures.cache_servers",
    "fixtures.shared_data",
    "fixtures.busy_log",
    "fixtures.projects",
    "fixtures.zygote",
    "fixtures.dual_writes",
    "fixtures.interrupts",
    "fixtures.icu",
]

settings.register_profile(
    "default", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("brief", parent=settings.get_profile("default"), max_examples=10)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts what runs in the background so, and the commands that tests interrupt would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test says itself which server it means."""
    for name in [name for name in os.environ if name.startswith("DATAARCH_")]:
        monkeypatch.delenv(name)
