"""What differs between the ComfyUI versions this pack supports (0.3.75 to 0.33 and later)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def build(factory: Callable[..., T], *args: Any, **fields: Any) -> T:
    """Call `factory` with those keyword arguments that this host's version of it knows.

    One unknown keyword in one schema would make the whole pack vanish from an older host.
    """
    known = inspect.signature(factory).parameters
    return factory(*args, **{name: value for name, value in fields.items() if name in known})
