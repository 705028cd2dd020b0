"""Moves bytes between calls and the daemon's socket, and connects again when that is needed."""

from keyless import _calls
from keyless._connect import be_patient, receive, transmit
from keyless._exchange import Exchange
from keyless._hash import digest_of
from keyless.errors import KeylessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from keyless._calls import Call
    from keyless._connect import Socket


class Line:
    """One connection at a time, and the calls on it.

    Args:
        dial: Makes a connection to the daemon.
        window: How many requests may be unanswered at once.
    """

    __slots__ = (
        "_dial",
        "_exchange",
        "_has_begun_again",
        "_patience",
        "_sending",
        "_socket",
        "_window",
    )

    def __init__(self, dial: "Callable[[], Socket]", *, window: int) -> None:
        self._dial = dial
        self._window = window
        self._socket: Socket | None = None
        self._exchange: Exchange | None = None
        self._sending = False  # whether a frame is half sent
        self._patience = 0.0  # how long the connection waits for a word; 0: for ever
        self._has_begun_again = False

    def connect(self) -> None:
        """Connect now, if that is not done."""
        if self._socket is None:
            self._socket = self._dial()
            self._exchange = Exchange(window=self._window)
            self._sending = False
            self._patience = 0.0

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._exchange = None

    def run(self, call: "Call") -> "Any":  # noqa: ANN401  # the callers say what it is
        """Run one call and return its value, or raise its error."""
        (finished,) = self._drive(iter((call,)))
        return finished.result()

    def stream(
        self, items: "Iterable[Any]", call_of: "Callable[[Any], Call]"
    ) -> "Iterator[tuple[int, Any]]":
        """Make a call of each item, run them, and yield position and value or error as they end.

        Args:
            items: What *call_of* takes; a KeylessError among them is its own result.
            call_of: May raise KeylessError, which is then the item's result.
        """

        def calls() -> "Iterator[Call]":
            for position, item in enumerate(items):
                try:
                    if isinstance(item, KeylessError):
                        raise item
                    call = call_of(item)
                except KeylessError as error:
                    call = _calls.failed(error)
                call.tag = position
                yield call

        for call in self._drive(calls()):
            yield call.tag, call.value if call.error is None else call.error

    def _drive(self, calls: "Iterator[Call]") -> "Iterator[Call]":
        """Run the calls, as many at a time as the window holds; yield them as they end."""
        active: set[Call] = set()
        more = True
        self._has_begun_again = False
        try:
            while more or active:
                if more and len(active) < self._window:
                    call = next(calls, None)
                    more = call is not None
                    if call is None:
                        continue
                    if call.done:
                        yield call
                        continue
                    # Entered first, so that whatever interrupts us cancels it.
                    active.add(call)
                    self._ready().submit(call)
                    self._push()
                    # Answers that are there already; with room for more nobody waits for them.
                    self._pull(wait=not more)
                else:
                    self._pull(wait=True)
                self._begin_again(active)
                for ended in self._finished(active):
                    active.discard(ended)
                    yield ended
        except KeyboardInterrupt:
            self._give_up(active)
            active = set()
            self.close()
            raise
        finally:
            self._give_up(active)

    def _begin_again(self, active: "set[Call]") -> None:
        """Ask a daemon's successor, once, if it hung up before its first word.

        It was stopped or killed while we waited to be let in: it has done nothing for us.
        """
        if self._exchange is None or not self._exchange.unheard or self._has_begun_again:
            return
        self._has_begun_again = True
        self.close()
        for call in active:
            call.again()
            self._ready().submit(call)
        self._push()

    def _finished(self, active: "set[Call]") -> "Iterator[Call]":
        """Yield what has ended for good; hash again for a call that asks for another digest."""
        exchange = self._exchange
        for call in exchange.finished() if exchange is not None else ():
            if call not in active:
                continue
            if call.needs is not None and call.artifact is not None:
                try:
                    call.again_with(digest_of(call.artifact, call.needs))
                    self._ready().submit(call)
                except KeylessError as error:
                    call.fail(error)
                else:
                    self._push()
                    continue
            yield call

    def _ready(self) -> Exchange:
        """Return the exchange of a connection that is alive as far as can be known."""
        exchange = self._exchange
        if exchange is not None and exchange.has_served and not exchange.unfinished:
            # The daemon hangs up on the idle; that is noticed here and not by the next request.
            self._pull(wait=False)
        if exchange is None or exchange.broken is not None:
            self.close()
            self.connect()
            exchange = self._exchange
        assert exchange is not None  # noqa: S101  # connect() has made it
        return exchange

    def _push(self) -> None:
        """Send what is to be sent."""
        if self._exchange is None or self._socket is None:
            return
        while data := self._exchange.outgoing():
            self._sending = True
            try:
                for heard in transmit(self._socket, data):
                    self._exchange.receive(heard)
            except OSError:
                # It has gone. Perhaps it said why; the end of the stream is there in any case.
                while heard := receive(self._socket, wait=False) or b"":
                    self._exchange.receive(heard)
                self._exchange.receive(b"")
            self._sending = False

    def _pull(self, *, wait: bool) -> None:
        """Take what the daemon says."""
        exchange = self._exchange
        if exchange is None or self._socket is None or exchange.broken is not None:
            return
        if wait and self._patience != exchange.patience:
            # A person who logs in takes longer than a service; and the daemon knows better.
            self._patience = exchange.patience
            be_patient(self._socket, self._patience)
        try:
            heard = receive(self._socket, wait=wait, patience=self._patience)
        except KeylessError as error:
            exchange.end_all(error)
            return
        if heard is not None:
            exchange.receive(heard)
            self._push()

    def _give_up(self, calls: "set[Call]") -> None:
        """Cancel what nobody waits for any more."""
        if not calls or self._exchange is None:
            return
        if self._sending:
            # Interrupted amid a frame: nothing can be said after half of one. Hanging up
            # cancels as well.
            self.close()
            return
        for call in calls:
            self._exchange.cancel(call)
        self._push()
