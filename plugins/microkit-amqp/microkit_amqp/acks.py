"""Which acks may be sent together."""

from __future__ import annotations

from typing import NamedTuple


class Answer(NamedTuple):
    """One answer to send.

    Attributes:
        tag: delivery tag.
        multiple: it answers for all earlier ones as well.
        requeue: it gives back instead of acking.
    """

    tag: int
    multiple: bool = False
    requeue: bool = False


class AckWindow:
    """The answers of one channel, whose delivery tags count from 1.

    One ack for many is only sent for the part without a gap: what lies after a message that is still running is acked
    one by one, so that a slow message neither holds others back nor is acked with them.
    """

    def __init__(self) -> None:
        self._next = 1  # the lowest tag that is not answered
        self._acked: set[int] = set()
        self._returned: list[int] = []
        self._beyond: set[int] = set()  # answered ones above a gap

    def __len__(self) -> int:
        return len(self._acked) + len(self._returned)

    def ack(self, tag: int) -> None:
        """A message is done."""
        self._acked.add(tag)

    def give_back(self, tag: int) -> None:
        """A message is to come again."""
        self._returned.append(tag)

    def take(self) -> list[Answer]:
        """What is to be sent now, in this order."""
        # Returned ones first: an ack for many would answer for them otherwise.
        answers = [Answer(tag, requeue=True) for tag in self._returned]
        self._beyond.update(self._returned)
        self._returned.clear()
        last = several = 0
        while True:
            if self._next in self._acked:
                self._acked.discard(self._next)
                last = self._next
                several += 1
            elif self._next in self._beyond:
                self._beyond.discard(self._next)
            else:
                break
            self._next += 1
        if last:
            answers.append(Answer(last, multiple=several > 1))
        answers += [Answer(tag) for tag in sorted(self._acked)]
        self._beyond.update(self._acked)
        self._acked.clear()
        return answers
