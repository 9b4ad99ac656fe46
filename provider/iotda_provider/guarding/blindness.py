"""How long a guard has not been able to see its rollout, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds between two log lines about the same trouble.
SAY_EVERY = 60.0
#: Seconds after which a person is told once more.
_TELL_EVERY = 3600.0
_SLOWER, _SLOWEST = 10.0, 300.0


@dataclass
class Blindness:
    """Trouble that keeps a guard from judging; it never gives up, but it says so and slows down.

    :param poll_interval: seconds between two looks in good times
    :param max_outage: seconds of trouble after which a person is told and looks become rarer
    """

    poll_interval: float
    max_outage: float
    since: float | None = None
    said: float | None = None
    told: float | None = None
    slow: bool = False

    def trouble(self, now: float, *, hopeless: bool = False) -> tuple[bool, bool]:
        """Note a look that could not be judged; whether to log it, and whether to tell a person.

        :param hopeless: it will not pass by itself, so nobody waits for ``max_outage``
        """
        if self.since is None:
            self.since = now
        self.slow = self.slow or hopeless or now - self.since > self.max_outage
        tell = self.slow and (self.told is None or now - self.told >= _TELL_EVERY)
        say = tell or self.said is None or now - self.said >= SAY_EVERY
        self.told = now if tell else self.told
        self.said = now if say else self.said
        return say, tell

    def over(self, now: float) -> float | None:
        """Note a usable look; for how many seconds there was none, where there was trouble."""
        if self.since is None:
            return None
        lasted = now - self.since
        self.since = self.said = self.told = None
        self.slow = False
        return lasted

    @property
    def interval(self) -> float:
        """Seconds until the next look."""
        if not self.slow:
            return self.poll_interval
        return max(self.poll_interval, min(_SLOWER * self.poll_interval, _SLOWEST))
