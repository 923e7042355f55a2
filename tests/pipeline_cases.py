"""Stages against a loop by hand that has all layers; `shared_cases.py` runs a few, and this file many.

`python pipeline_cases.py RANK SIZE FOLDER COUNT` is one of SIZE processes. Each says which networks differ.
"""

import sys
from copy import deepcopy
from itertools import pairwise
from random import Random

import torch
import torch.distributed as dist
from torch import nn

from neuropil.distributed import pipeline, share
from neuropil.plasticity import Association, HardWTA, Hebb, KrotovHopfield, Oja, SoftHebb, correlate, gains, propose_
from neuropil.plasticity.sharing import learn_alone

RULES = [SoftHebb(tau=0.37), SoftHebb(tau=0.43, anti=True, normalise=True), KrotovHopfield(k=2, p=2.3), Oja(),
         KrotovHopfield(p=2, k=3, delta=0.37, average=True), HardWTA()]  # fmt: skip
LABELS = torch.arange(31) % 3
ASSOCIATE = Association(3, slope=3.7, k=2)


def associate(layer, pre, post, label):
    """The association rule with a bias that learns as well, as `AssociationClassifier` has it."""
    error = gains(ASSOCIATE, layer, pre, post, label=label)
    return correlate(layer, pre, error) / len(pre), error.mean(0)


def network(seed):
    """A network, rules for some of its layers, and batches: all at random."""
    dice = Random(seed)
    torch.manual_seed(seed)
    dtype, side, channels = dice.choice([torch.float64, torch.float32]), 9, dice.choice([1, 3])
    images = torch.rand(31, channels, side, side, dtype=dtype)
    images = images.to(memory_format=dice.choice([torch.contiguous_format, torch.channels_last]))
    parts, rules = [], {}
    for _ in range(dice.randint(1, 3)):
        rules[str(len(parts))] = dice.choice(RULES)
        wide = dice.randint(4, 7)
        parts += [nn.Conv2d(channels, wide, 3, padding=1), dice.choice([nn.ReLU(), nn.BatchNorm2d(wide)])]
        if dice.random() < 0.5 and side > 4:
            parts, side = [*parts, nn.MaxPool2d(2)], side // 2
        channels = wide
    parts.append(nn.Flatten())
    inputs = channels * side**2
    for _ in range(dice.randint(2, 3)):
        rules[str(len(parts))] = dice.choice([*RULES, ASSOCIATE, associate])
        parts += [nn.Linear(inputs, 8), nn.Sigmoid()]
        inputs = 8
    cuts = sorted(dice.sample(range(1, len(images)), dice.randint(2, 5)))
    batches = [(images[a:b], LABELS[a:b]) for a, b in pairwise([0, *cuts, len(images)])]
    return nn.Sequential(*parts).to(dtype), rules, batches


def optimizer_of(model, seed):
    """SGD with momentum or Adam."""
    return (
        torch.optim.SGD(model.parameters(), lr=0.013, momentum=0.6)
        if seed % 2
        else torch.optim.Adam(model.parameters())
    )


@torch.no_grad()
def learn_by_hand(model, rules, batches, optimizer):
    """All layers learn from each batch after it went through all of them."""
    for x, label in batches:
        seen = {}
        for name, child in model.named_children():
            seen[name] = (x, child(x))
            x = seen[name][1]
        for name, rule in rules.items():
            layer, third = model.get_submodule(name), {"label": label} if rule in (ASSOCIATE, associate) else {}
            change = rule(layer, *seen[name], **third)
            propose_(layer, *(change if isinstance(change, tuple) else (change,)))
        optimizer.step()


def sent_by_hand(stage, batches):
    """Bytes of the activity and the labels that leave this stage upwards."""
    names = list(stage.model._modules)
    end = 1 + names.index([*stage.own._modules][-1])
    if end == len(names):
        return 0
    below = deepcopy(stage.model[:end]).eval()
    return sum(one.numel() * one.element_size() for x, label in batches for one in (below(x), label))


def same(seed, group=None, starts=None):
    """Whether all stages of `group` learn what a loop by hand does, bit for bit, in three passes, and say so."""
    model, rules, batches = network(seed)
    other = deepcopy(model)
    learn_alone(other)
    stage = pipeline(model, rules, batches[0], group=group, starts=starts)
    steps, told = [optimizer_of(one, seed) for one in (model, other)], True
    for some in batches, batches[::-1], batches[1:2]:
        done = stage.learn_(some, steps[0])
        told &= done.batches == len(some) and (done.seconds > done.waited > 0) == bool(stage.starts)
        told &= done.sent == sent_by_hand(stage, some)
        learn_by_hand(other, rules, some, steps[1])
    both = model.state_dict(), other.state_dict()
    moved = any(not torch.equal(both[1][name], one) for name, one in network(seed)[0].state_dict().items())
    alike = torch.tensor(int(told and moved and all(torch.equal(both[1][name], one) for name, one in both[0].items())))
    dist.all_reduce(alike, dist.ReduceOp.MIN, group=group)
    return bool(alike)


def differs_on_a_grid():
    """Two stages of two processes each against a loop by hand: the largest difference, relative."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 5)).double()
    rules, images = {"0": SoftHebb(tau=0.37), "4": KrotovHopfield(k=2, average=True)}, torch.rand(22, 1, 4, 4).double()
    batches, other = [*images[:21].split(7), images[21:]], deepcopy(model)  # of the last one some have nothing
    learn_alone(other)
    stage = pipeline(model, rules, images, workers=2)
    stage.learn_(batches, torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.3))
    pairs = [(batch, None) for batch in batches]
    learn_by_hand(other, rules, pairs, torch.optim.SGD(other.parameters(), lr=0.2, momentum=0.3))
    both = zip(model.state_dict().values(), other.state_dict().values())
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in both)


def refusals(rank, group):
    """What two processes ask for that they do not get, by what is wrong with it."""
    first, x = lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6)), torch.rand(8, 4)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    both = {"0": Hebb(), "2": HardWTA()}

    def make(model=None, rules=both, **named):
        return pipeline(model or first(), rules, (x, LABELS[:8]), group=group, **named)

    def learn(batches, other=None):
        stage = make()
        stage.learn_(batches, torch.optim.SGD((other or stage.model).parameters(), lr=0.1))

    return {
        "module": lambda: make(nn.Linear(4, 5)),
        "few": lambda: make(rules={"0": Hebb()}),
        "starts": lambda: make(starts=["2", "1"]),
        "name": lambda: make(starts=["3"]),
        "idle": lambda: make(starts=["1"], rules={"0": Hebb()}),
        "tied": lambda: make(tied, {"0": Hebb(), "1": Hebb()}, starts=["1"]),
        "workers": lambda: make(workers=3),
        "dropout": lambda: make(nn.Sequential(nn.Linear(4, 5), nn.Dropout(), nn.Linear(5, 6))),
        "shared": lambda: make(share(first(), group)),
        "rules": lambda: make(rules={"0": Oja() if rank else Hebb(), "2": HardWTA()}),
        "none": lambda: learn([]),
        "optimizer": lambda: learn([x], other=first()),
    }


def main(rank, size, folder, count):
    dist.init_process_group("gloo", store=dist.FileStore(folder + "/store", size), rank=rank, world_size=size)
    wrong = [seed for seed in range(count) if not same(seed)]
    print(f"{size} stages, process {rank}: {count - len(wrong)} of {count} random networks have the same bits {wrong}")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
