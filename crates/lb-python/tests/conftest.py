"""What the tests share: the built-in worker, and a session that knows a few facts."""

from __future__ import annotations

import pytest

import latent_briefing as lb

FACTS = [
    "The Velmar ledger is kept by Anara.",
    "The Oslund beacon has 40 lamps.",
    "The Tarvik bridge was closed on Monday.",
    "The Brenholm archive moved to the north wing.",
]


@pytest.fixture(scope="session")
def worker() -> lb.Worker:
    return lb.Worker.embedded()


@pytest.fixture
def session(worker: lb.Worker) -> lb.Session:
    session = worker.session()
    session.extend(FACTS)
    return session
