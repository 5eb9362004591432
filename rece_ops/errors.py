"""The errors this package raises; every message names the input, its value and the remedy."""

from .texts import printable

MAX_MESSAGE = 1000


class RECEError(Exception):
    """Base class, so that a caller can tell our sentences from everybody else's.

    Whatever a message quotes, it is one line that can be encoded, and not endless.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, MAX_MESSAGE))


class InputError(RECEError, ValueError):
    """An argument is missing, out of range, non-finite or of the wrong shape."""


class NumericalError(RECEError, ArithmeticError):
    """A solve is too ill-conditioned for its result to mean anything."""


class EraserFileError(RECEError, ValueError):
    """A file is not an eraser that this version can read, or not a sound one."""
