"""How much a key may ask in a minute: a bucket that fills steadily and holds one minute's worth.

Never: reads a clock; time comes in as seconds that only grow.
"""

from __future__ import annotations


class Bucket:
    """`take` says how long to wait, and takes nothing then. It may be overdrawn by `settle`: the debt is waited off."""

    def __init__(self, per_minute: int, now_s: float) -> None:
        self.per_minute = per_minute
        self._left = float(per_minute)
        self._at_s = now_s

    def left(self, now_s: float) -> float:
        return min(float(self.per_minute), self._left + max(0.0, now_s - self._at_s) * self.per_minute / 60)

    def wait_s(self, amount: float, now_s: float) -> float:
        """0 when `amount` can be had now. More than a bucketful counts as a bucketful."""
        lacking = min(amount, self.per_minute) - self.left(now_s)
        return max(0.0, lacking * 60 / self.per_minute) if lacking > 1e-9 else 0.0

    def take(self, amount: float, now_s: float) -> None:
        self._left = self.left(now_s) - min(amount, self.per_minute)
        self._at_s = now_s

    def settle(self, taken: float, used: float, now_s: float) -> None:
        """What was really used in place of what was taken for it."""
        self._left = min(float(self.per_minute), self.left(now_s) + min(taken, self.per_minute) - used)
        self._at_s = now_s


class Limits:
    """The two buckets of a key. 0 means no limit."""

    def __init__(self, rpm: int, tpm: int, now_s: float) -> None:
        self.rpm, self.tpm = rpm, tpm
        self._requests = Bucket(rpm, now_s) if rpm else None
        self._tokens = Bucket(tpm, now_s) if tpm else None

    def ask(self, tokens: int, now_s: float) -> tuple[str, float]:
        """Take one request and so many tokens; or what is short ("requests" or "tokens"), and for how many seconds."""
        for word, bucket, amount in (("requests", self._requests, 1.0), ("tokens", self._tokens, tokens)):
            wait_s = bucket.wait_s(amount, now_s) if bucket else 0.0
            if wait_s:
                return word, wait_s
        if self._requests:
            self._requests.take(1.0, now_s)
        if self._tokens:
            self._tokens.take(tokens, now_s)
        return "", 0.0

    def settle(self, taken: int, used: int, now_s: float) -> None:
        if self._tokens:
            self._tokens.settle(taken, used, now_s)

    def charge(self, requests: int, tokens: int, now_s: float) -> None:
        """What was had elsewhere without asking here: it may overdraw, by no more than a bucketful at once."""
        if self._requests:
            self._requests.take(requests, now_s)
        if self._tokens:
            self._tokens.take(tokens, now_s)
