"""The order in which transactions of one tenant are committed, while two of them are under way.

A loader that can begin with rows while those before them are not committed yet leaves one connection to the second half
of a transaction while the next one is in its first. That one then waits, and the server does not see for whom: so who
is tried again first sends back who is behind, and might hold what it needs.
"""

from __future__ import annotations

from threading import Condition

from dataarch.errors import Retryable

__all__ = ["Turn"]


class Turn:
    """A transaction's place among those of its tenant: begun, taken and ended, by one thread."""

    def __init__(self, before: Turn | None = None) -> None:
        """Come behind another one."""
        self._before = before
        self._changed = Condition()
        self._taken = False
        self._ended = False
        self._error: BaseException | None = None

    @property
    def waits(self) -> bool:
        """Whether rows before may still be under way."""
        return self._before is not None and not self._before._ended

    def begin(self, *, eagerly: bool) -> None:
        """Begin, maybe once more: wait until rows before are in their second half, or else until they are committed."""
        self._become(taken=False)
        if self._before is not None:
            self._before._wait(taken=True if eagerly else None)

    def take(self) -> None:
        """Begin with the second half: wait until rows before are committed.

        Raises:
            Retryable: they are tried again, and these must be, too.
            BaseException: they failed with it, and nothing may be committed behind them.
        """
        if self._before is not None:
            self._before._wait(taken=False)
            if self._before._error is not None:
                raise self._before._error
            if not self._before._ended:
                raise Retryable("Rows before these are written once more.")
            # all that were there before are not kept
            self._before = None
        self._become(taken=True)

    def end(self, error: BaseException | None = None) -> None:
        """Let those behind go on, where it is committed."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def _become(self, *, taken: bool) -> None:
        with self._changed:
            self._taken = taken
            self._changed.notify_all()

    def _wait(self, *, taken: bool | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._taken is taken)
