"""Where a loop is: its position, what its parts were there, and the loops inside its present iteration."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from neuropil.errors import Refusal, require
from neuropil.runs.checkpoint import Part


@dataclass(eq=False)
class LoopState:
    """One loop of a run; the run itself is the outermost, a loop of one iteration.

    The laws: `state` is of the moment after `done` iterations (None: nothing to restore, because code that runs again
    brings the parts there). `inner` belongs to the iteration that began at that moment, so it means something only
    while `at == done`; a loop that moved on without a capture is stale, and nothing may be written until it captures.

    Attributes:
        key: its title, numbered where a title comes again within one iteration.
        count: iterations in all.
        done: iterations behind `state`.
        state: of its parts and of those of the loops around it, by name.
        inner: the loops of the present iteration, by key.
        at: iterations finished in this process.
        parts: the live objects.
        titles: how often each title came in this iteration.
        nests: it was seen to hold other loops, so it has to capture its parts every time.
    """

    key: str
    count: int
    done: int = 0
    state: dict[str, Any] | None = None
    inner: "dict[str, LoopState]" = field(default_factory=dict)
    at: int = 0
    parts: Mapping[str, Part] = field(default_factory=dict)
    titles: Counter[str] = field(default_factory=Counter)
    nests: bool = False

    @property
    def exact(self) -> bool:
        """Whether `state` is of the iteration that is going on."""
        return self.at == self.done

    def enter(self, title: str, count: int, parts: Mapping[str, Part]) -> "LoopState":
        """The loop `title` inside the present iteration: the one that was saved, or a new one."""
        whole = isinstance(count, int) and count >= 0
        require(whole, f"loop {title!r} needs a whole number of iterations, got {count!r}.")
        self.titles[title] += 1
        key = title if self.titles[title] == 1 else f"{title} ({self.titles[title]})"
        frame = self.inner.setdefault(key, LoopState(key, count))
        if frame.count != count:
            raise Refusal(f"loop {key!r} had {frame.count} iterations when it was saved, now {count}: recipe changed?")
        frame.at, frame.parts = frame.done, parts
        return frame

    def advance(self) -> None:
        """One more iteration is over, and the loops inside it with it."""
        self.nests = self.nests or bool(self.titles)
        self.at += 1
        self.inner.clear()
        self.titles.clear()

    def tree(self) -> dict[str, Any]:
        """What a checkpoint holds of this loop."""
        inner = {key: frame.tree() for key, frame in self.inner.items()} if self.exact else {}
        return {"count": self.count, "done": self.done, "state": self.state, "inner": inner}

    @classmethod
    def of(cls, key: str, tree: Mapping[str, Any]) -> Self:
        """The loop that `tree` describes."""
        inner = {name: cls.of(name, branch) for name, branch in tree["inner"].items()}
        return cls(key, tree["count"], tree["done"], tree["state"], dict(inner), at=tree["done"])


def parts_of(stack: list[LoopState]) -> dict[str, Part]:
    """The parts of all loops of `stack`, outermost first, each object once."""
    parts: dict[str, Part] = {}
    for depth, frame in enumerate(stack):
        for name, part in frame.parts.items():
            if not any(part is known for known in parts.values()):
                parts[f"{depth}.{name}"] = part
    return parts
