"""What several processes do together, as one of them alone can show it: buffers, batches on their way, stages."""

import pytest
import torch
from torch import nn

import neuropil as npl
from neuropil.cli import follower
from neuropil.distributed import link, stages
from neuropil.plasticity import sharing
from neuropil.plasticity.processes import wait_for


def test_all_parameters_and_buffers_become_those_of_the_first_process(monkeypatch):
    model, sent = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), []
    npl.distributed.start("gloo")
    try:
        monkeypatch.setattr(sharing.dist, "broadcast", lambda one, **named: sent.append((one, named["group_src"])))
        npl.distributed.share(model)
    finally:
        npl.distributed.stop()
    assert {id(one) for one, _ in sent} == {id(one) for one in (*model.parameters(), *model.buffers())}
    assert not any(source for _, source in sent)


def test_every_process_takes_the_first_batch_and_learns_from_all_of_them():
    class Stage:
        def __init__(self, reads):
            self.reads, self.seen = reads, []

        def learn_(self, batches, optimizer):
            self.seen += batches if self.reads else []

    for reads in (True, False):
        stage, batches = Stage(reads), iter([1, 2, 3])
        stages.learn_pass_(stage, batches, None)
        assert stage.seen == ([1, 2, 3] if reads else [])
        assert next(batches, None) == (None if reads else 2)


def test_few_batches_are_on_their_way_and_none_is_after_the_last(monkeypatch):
    flying, said = [], []

    class Work:
        def __init__(self):
            flying.append(self)

        def wait(self):
            flying.remove(self)

    monkeypatch.setattr(link.dist, "get_backend", lambda group: "gloo")
    monkeypatch.setattr(link.dist, "isend", lambda one, **named: Work())
    monkeypatch.setattr(link.dist, "send", lambda text, **named: said.append(bytes(text.tolist()).strip()))
    one = link.Link(1, None)
    for later in (3, 3, 3, 3, link.END):
        one.send(link.Batch(torch.rand(3, 2), torch.arange(3), later))
        assert 3 <= len(flying) <= 3 * link.AHEAD  # examples, labels, and how many come next
    one.close()
    assert not flying
    assert one.sent == 5 * 3 * (2 * 4 + 8)
    link.Link(1, None).close()
    assert [text[:4] for text in said] == [b'[["f', b"null"]  # once what they are like, and that there are none


def test_a_network_that_was_forgotten_is_named_though_another_is_shared(monkeypatch, capsys):
    shared, alone, forgotten = (nn.Linear(3, 2) for _ in range(3))
    monkeypatch.setattr(sharing.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(sharing.dist, "get_world_size", lambda: 3)
    sharing._say_once.cache_clear()
    sharing.share_alike(shared.weight, "all of them")
    sharing.learn_alone(alone)
    assert sharing.sharing(shared.weight) == "all of them"
    assert sharing.sharing(alone.weight) is None
    assert capsys.readouterr().err == ""
    assert sharing.sharing(forgotten.weight) is None
    assert sharing.sharing(forgotten.weight) is None
    assert capsys.readouterr().err.count("learn from the samples of their own process only") == 1
    sharing.stop_sharing(shared)
    sharing._say_once.cache_clear()
    assert sharing.sharing(shared.weight) is None
    assert "own process only" in capsys.readouterr().err
    sharing._say_once.cache_clear()


def test_a_process_draws_as_the_first_one_does(tmp_path, monkeypatch):
    mine, first, began = torch.get_rng_state(), torch.Generator().manual_seed(5).get_state(), []
    (tmp_path / "run").mkdir()
    for name in ("wait", "check_versions"):
        monkeypatch.setattr(follower, name, lambda *_: None)
    monkeypatch.setattr(follower.Job, "of", lambda command: command)
    monkeypatch.setattr(follower.Run, "resume", lambda folder, **_: folder)
    monkeypatch.setattr(follower, "company", lambda job: job)
    monkeypatch.setattr(follower, "perform", lambda *_: began.append(torch.get_rng_state()))
    try:
        follower._do({"folder": str(tmp_path / "run"), "command": "neuropil run digits", "state": first.tolist()})
    finally:
        torch.set_rng_state(mine)
    assert torch.equal(*began, first)


class Message:
    """A message of torch.distributed: each look at it ends as it is told."""

    def __init__(self, *ends):
        self.ends = [*ends]

    def wait(self, patience=None):
        end = self.ends.pop(0)
        if end:
            raise RuntimeError(end)


def test_a_message_is_waited_for_until_it_comes_or_has_failed():
    late = Message("Operation timed out!", "Operation timed out!", None)
    wait_for(late, torch.device("cpu"))
    assert not late.ends
    failed = Message("Operation timed out!", "Timed out waiting 1800000ms for recv operation to complete", None)
    with pytest.raises(RuntimeError, match="1800000ms"):  # looked at again it would say so for good
        wait_for(failed, torch.device("cpu"))
