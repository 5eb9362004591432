"""Fuzzing: a fixed, short part in every run of the tests, and as long as one likes with ``--fuzz-seconds``.

python -m pytest tests/fuzz --fuzz-seconds 600
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from rece_pack.rece_ops import RECEError
from rece_pack.rece_ops.errors import MAX_MESSAGE

from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable

# Before any test module here is imported: they import the nodes.
make_importable(prepare_comfyui())

Check = Callable[[Any], None]
Fuzz = Callable[[SearchStrategy[Any], Check, int], None]


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Calls a check with so many examples of a strategy, always the same; then with others until the time is over."""
    seconds = request.config.getoption("--fuzz-seconds")

    def run(strategy: SearchStrategy[Any], check: Check, examples: int) -> None:
        known = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
        settings(known, max_examples=examples, derandomize=True)(given(strategy)(check))()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            settings(known, max_examples=examples, derandomize=False)(given(strategy)(check))()

    return run


@pytest.fixture(scope="session")
def refused() -> Callable[..., Any]:
    """Calls a function; None where it refuses in a sentence that is short and can be encoded, else what it returns."""

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except RECEError as error:
            message = str(error)
        except Exception as error:
            # The pack under the host's name has errors of its own.
            if not any(kind.__name__ == "RECEError" for kind in type(error).__mro__):
                raise
            message = str(error)
        message.encode("utf-8")
        assert 10 < len(message) <= MAX_MESSAGE
        assert "\n" not in message
        return None

    return call
