"""Where a loop is: its position, what its objects were there, and the loops inside its present iteration."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Self, cast

from neuropil.errors import Refusal, require
from neuropil.runs.checkpoint import Stateful


@dataclass(eq=False)
class LoopState:
    """One loop of a run; the run itself is the outermost, a loop of one iteration.

    The laws: `state` is of the moment after `done` iterations (None: nothing to restore, because code that runs again
    brings the objects there). `inner` belongs to the iteration that began at that moment, so it means something only
    while `at == done`. A loop that moved on without a capture is stale: nothing may be written until it captures.

    Attributes:
        key: its title, numbered where a title comes again within one iteration.
        count: iterations in all.
        done: iterations behind `state`.
        state: of its objects and of those of the loops around it, by name.
        inner: the loops of the present iteration, by key.
        at: iterations finished in this process.
        objects: the live ones whose state changes in it.
        titles: how often each title came in this iteration.
        nests: it was seen to hold other loops, so it has to capture their state every time.
    """

    key: str
    count: int
    done: int = 0
    state: dict[str, Any] | None = None
    inner: "dict[str, LoopState]" = field(default_factory=dict)
    at: int = 0
    objects: Mapping[str, Stateful] = field(default_factory=dict)
    titles: Counter[str] = field(default_factory=Counter)
    nests: bool = False

    @property
    def exact(self) -> bool:
        """Whether `state` is of the iteration that is going on."""
        return self.at == self.done

    def enter(self, title: str, count: int, objects: Mapping[str, Stateful]) -> "LoopState":
        """The loop `title` inside the present iteration: the one that was saved, or a new one."""
        whole = isinstance(count, int) and count >= 0
        require(whole, f"loop {title!r} needs a whole number of iterations, got {count!r}.")
        self.titles[title] += 1
        key = title if self.titles[title] == 1 else f"{title} ({self.titles[title]})"
        loop = self.inner.setdefault(key, LoopState(key, count))
        if loop.count != count:
            raise Refusal(f"loop {key!r} had {loop.count} iterations when it was saved, now {count}: recipe changed?")
        loop.at, loop.objects = loop.done, objects
        return loop

    def advance(self) -> None:
        """One more iteration is over, and the loops inside it with it."""
        self.nests = self.nests or bool(self.titles)
        self.at += 1
        self.inner.clear()
        self.titles.clear()

    def tree(self) -> dict[str, Any]:
        """What a checkpoint holds of this loop."""
        inner = {key: loop.tree() for key, loop in self.inner.items()} if self.exact else {}
        return {"count": self.count, "done": self.done, "state": self.state, "inner": inner}

    @classmethod
    def of(cls, key: str, tree: Mapping[str, Any]) -> Self:
        """The loop that `tree` describes."""
        inner = {name: cls.of(name, branch) for name, branch in tree["inner"].items()}
        return cls(key, tree["count"], tree["done"], tree["state"], dict(inner), at=tree["done"])


EMPTY: dict[str, Any] = {"loops": LoopState("run", 1).tree(), "here": [], "rows": 0, "peak": 0.0, "saved": []}
EMPTY["digest"] = sha256().hexdigest()


def checked(saved: Any, path: Path) -> dict[str, Any]:
    """What a checkpoint holds, or a refusal, if it is not as `Run` writes it."""
    texts = lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value)
    whole = lambda value: type(value) is int and value >= 0
    kinds: dict[str, Any] = {"here": texts, "saved": texts, "rows": whole, "loops": _is_tree}
    kinds |= {"digest": lambda value: isinstance(value, str), "peak": lambda value: type(value) in (int, float)}
    fine = isinstance(saved, dict) and set(saved) == set(kinds) and all(kinds[name](saved[name]) for name in kinds)
    require(fine, f"{path} is damaged (it is not of a run); delete it and resume to start this run over.")
    return cast(dict[str, Any], saved)


def _is_tree(value: Any) -> bool:
    """Whether it is what `LoopState.tree` gives; the levels are walked, not called, so that there may be many."""
    left = [value]
    while left:
        one = left.pop()
        if not isinstance(one, dict) or set(one) != {"count", "done", "state", "inner"}:
            return False
        numbers = [one["done"], one["count"]]
        if not all(type(number) is int for number in numbers) or not 0 <= numbers[0] <= numbers[1]:
            return False
        if not isinstance(one["state"], dict | None) or not isinstance(one["inner"], dict):
            return False
        if not all(isinstance(key, str) for part in (one["state"] or {}, one["inner"]) for key in part):
            return False
        left += one["inner"].values()
    return True


def objects_of(stack: list[LoopState]) -> dict[str, Stateful]:
    """The live objects of all loops of `stack`, outermost first, each once."""
    found: dict[str, Stateful] = {}
    for depth, loop in enumerate(stack):
        for name, live in loop.objects.items():
            if not any(live is known for known in found.values()):
                found[f"{depth}.{name}"] = live
    return found
