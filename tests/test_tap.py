"""How activity reaches a rule."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from neuropil.errors import Refusal
from neuropil.plasticity import BCM, HardWTA, Hebb, KrotovHopfield, Oja, attach, propose_, tap


class Net(nn.Module):
    """A tree with a nested layer, and one layer that is used twice."""

    def __init__(self, inplace=False, residual=False):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=inplace))
        self.twice, self.residual = nn.Linear(4, 4), residual

    def forward(self, x):
        x = self.body(x)
        first = self.twice(x)
        if self.residual:
            x += 1
        return self.twice(first)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_names_reach_into_the_tree_and_a_dict_of_rules_serves():
    model, x = Net(), torch.randn(3, 4)
    with tap(model, {"body.0": Oja()}) as seen:
        model(x)
    pre, post = seen["body.0"]
    assert list(seen) == ["body.0"]
    assert torch.equal(pre, x)
    assert torch.equal(post, model.body[0](x))
    assert not pre.requires_grad
    assert not post.requires_grad


def test_names_may_come_from_a_generator():
    model = Net()
    with tap(model, (name for name in ["body.0", "twice"])) as seen:
        model(torch.randn(3, 4))
    assert set(seen) == {"body.0", "twice"}


def test_a_shared_layer_is_one_longer_batch_and_a_new_pass_starts_anew():
    model, x = Net(), torch.randn(3, 4)
    with tap(model, ["twice"]) as seen:
        model(torch.randn(5, 4))
        model(x)
    h = model.body(x)
    assert torch.equal(seen["twice"].pre, torch.cat([h, model.twice(h)]))
    assert torch.equal(seen["twice"].post, torch.cat([model.twice(h), model.twice(model.twice(h))]))


@pytest.mark.parametrize("rule", [Hebb(), Oja(), HardWTA(), KrotovHopfield(p=2, k=2)], ids=repr)
@pytest.mark.parametrize("layer", [nn.Linear(4, 5, bias=False), nn.Conv2d(4, 5, 1, bias=False)], ids=repr)
def test_under_autocast_activity_has_the_dtype_of_the_weight(layer, rule):
    x = torch.randn(6, 4, *[1] * (layer.weight.dim() - 2))
    model = nn.Sequential(layer, nn.ReLU())
    with torch.autocast("cpu", dtype=torch.bfloat16), tap(model, ["0"]) as seen:
        model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = layer(x)
    assert low.dtype == torch.bfloat16
    assert torch.equal(seen["0"].post, low.float())
    torch.testing.assert_close(rule(layer, *seen["0"]), rule(layer, x, low.detach().float()))


def test_under_autocast_whole_numbers_stay_whole():
    model = nn.Sequential(nn.Embedding(3, 2))
    with tap(model, ["0"]) as seen:
        model(torch.tensor([1, 2]))
    assert torch.equal(seen["0"].pre, torch.tensor([1, 2]))


def test_a_layer_without_a_weight_is_tapped_like_any_other():
    x = torch.randn(3, 4)
    with tap(model := nn.Sequential(nn.ReLU()), ["0"]) as seen:
        model(x)
    assert torch.equal(seen["0"].pre, x)
    assert torch.equal(seen["0"].post, x.relu())


@pytest.mark.parametrize(("by", "prefix"), [("model", ""), ("compiled", ""), ("compiled", "_orig_mod.")])
def test_a_compiled_model_is_tapped_like_any_other(by, prefix):
    model = Net()
    compiled = torch.compile(model, backend="eager")
    compiled(torch.randn(3, 4))  # compiled before there was a hook
    target = {"model": model, "compiled": compiled}[by]
    for _ in range(2):
        x = torch.randn(3, 4)
        with tap(target, [f"{prefix}body.0", f"{prefix}twice"]) as seen:
            compiled(x)
        h = model.body(x)
        torch.testing.assert_close(seen[f"{prefix}body.0"].pre, x)
        assert target.get_submodule(f"{prefix}body.0") is model.body[0]
        torch.testing.assert_close(seen[f"{prefix}twice"].pre, torch.cat([h, model.twice(h)]).detach())
    compiled(x)
    assert hooks(model) == 0


def test_an_unknown_layer_is_refused_with_the_nearest_name():
    model = Net()
    with pytest.raises(Refusal, match=r"unknown layer 'boby.0'. Did you mean 'body.0'\?"), tap(model, ["boby.0"]):
        pass
    assert hooks(model) == 0


@pytest.mark.parametrize("fault", [{"inplace": True}, {"residual": True}])
def test_activity_changed_in_place_is_refused(fault):
    model = Net(**fault)
    with (
        pytest.raises(Refusal, match="changed in place before its rule"),
        torch.no_grad(),
        tap(model, ["body.0", "twice"]),
    ):
        model(torch.randn(3, 4))
    assert hooks(model) == 0


def test_inference_mode_is_refused():
    model = Net()
    with pytest.raises(Refusal, match=r"use torch\.no_grad"), torch.inference_mode(), tap(model, ["twice"]):
        model(torch.randn(3, 4))
    assert hooks(model) == 0


def test_no_hook_outlives_the_block():
    model = Net()
    with tap(model, ["body.0"]):
        assert hooks(model) == 3
    assert hooks(model) == 0
    with pytest.raises(KeyError), tap(model, ["body.0"]):
        raise KeyError
    assert hooks(model) == 0


@pytest.mark.parametrize("layer_of", [lambda: nn.Linear(4, 3), lambda: nn.Conv1d(4, 3, 2, padding=1)])
def test_inputs_alone_are_those_of_a_whole_pass(layer_of):
    torch.manual_seed(0)
    middle = layer_of()
    shape = (5, 4, *[6] * (middle.weight.dim() - 2))
    model = nn.Sequential(nn.Linear(shape[-1], shape[-1]), nn.Tanh(), middle, nn.Tanh())
    x = torch.randn(shape)
    with tap(model, ["0", "2"]) as whole:
        model(x)
    with tap(model, ["0", "2"], pre_only=True) as seen:
        model(x)
    for name in "0", "2":
        assert torch.equal(seen[name].pre, whole[name].pre)
        assert seen[name].post is None
    change = Oja()(middle, *seen["2"])
    torch.testing.assert_close(change, Oja()(middle, *whole["2"]))
    assert hooks(model) == 0


def test_the_pass_ends_where_the_last_named_layer_has_its_input():
    model, computed = Net(), []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: computed.append(name))
    with tap(model, ["twice", "body.0"], pre_only=True) as seen:
        model(torch.randn(3, 4))
        raise AssertionError  # never reached: the block ends with the pass
    assert computed == ["body.0", "body.1", "body"]
    assert set(seen) == {"body.0", "twice"}
    assert model(torch.randn(3, 4)).shape == (3, 4)


def test_an_inner_tap_lets_the_end_of_an_outer_one_through():
    model = Net()
    with tap(model, ["body.0"], pre_only=True) as outer:
        with tap(model, ["twice"], pre_only=True) as inner:
            model(torch.randn(3, 4))
        raise AssertionError
    assert set(outer) == {"body.0"}
    assert not inner
    assert hooks(model) == 0


def test_the_model_itself_may_be_the_only_layer():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    with tap(layer, [""], pre_only=True) as seen:
        layer(x)
    assert torch.equal(seen[""].pre, x)


def test_no_gradient_crosses_a_layer_boundary():
    model, x = Net(), torch.randn(3, 4, requires_grad=True)
    with tap(model, ["body.0", "twice"]) as seen:
        model(x)
    change = Oja()(model.twice, *seen["twice"])
    assert not change.requires_grad
    propose_(model.twice, change)
    assert x.grad is None
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["twice.weight"]


class ByMethods(nn.Module):
    """Calls its layer by keyword, in forward and in a method of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.f, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)

    def encode(self, x):
        return self.f(input=x)

    def forward(self, x):
        return self.encode(x).relu()


@pytest.mark.parametrize("pre_only", [False, True])
def test_input_may_come_by_keyword(pre_only):
    model, x = ByMethods(), torch.randn(5, 4)
    with tap(model, ["f"], pre_only=pre_only) as seen:
        model(x)
    assert torch.equal(Oja()(model.f, *seen["f"]), Oja()(model.f, x))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.LSTM(3, 4), (5, 2, 3)), (nn.GRU(3, 4), (5, 2, 3)), (nn.MultiheadAttention(4, 2), (5, 2, 4))],
    ids=lambda x: type(x).__name__,
)
def test_a_layer_that_takes_or_gives_several_tensors_is_refused(layer, shape):
    words = f"tap needs one tensor into and out of a layer; '' is a {type(layer).__name__}; name a Linear"
    x = torch.rand(shape)
    with pytest.raises(Refusal, match=words), tap(layer, [""]):
        layer(*[x] * 3) if isinstance(layer, nn.MultiheadAttention) else layer(x)
    with pytest.raises(Refusal, match="'' is a Bilinear"), tap(bilinear := nn.Bilinear(2, 2, 3), [""], pre_only=True):
        bilinear(torch.rand(4, 2), torch.rand(4, 2))


def test_a_layer_that_was_never_reached_says_so_when_it_is_asked_for():
    model = ByMethods()
    with tap(model, ["f", "unused"]) as seen:
        model(torch.randn(5, 4))
    assert list(seen) == ["f"]
    with pytest.raises(Refusal, match="no pass of the block has reached layer 'unused'"):
        seen["unused"]
    attention = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True))
    with tap(attention, ["0.self_attn.out_proj", "0.linear1"]) as seen:
        attention(torch.rand(2, 3, 4))
    assert Oja()(attention[0].linear1, *seen["0.linear1"]).shape == (8, 4)
    with pytest.raises(Refusal, match="an attention layer uses the weights of its projections without calling them"):
        seen["0.self_attn.out_proj"]


def test_a_second_pass_outside_of_the_models_own_call_is_refused():
    model, a, b = ByMethods(), torch.randn(5, 4), torch.randn(2, 4)
    with tap(model, ["f"]) as seen:
        model.encode(a)
    assert torch.equal(seen["f"].pre, a)
    with tap(model, ["f"]) as seen:
        model.encode(a)
        model(b)  # a pass of the model starts anew
    assert torch.equal(seen["f"].pre, b)
    for first in model.encode, model:
        with tap(model, ["f"]):
            first(a)
            with pytest.raises(Refusal, match=r"'f' was reached a second time outside of model\(\.\.\.\)"):
                model.encode(b)
    assert hooks(model) == 0


def test_each_thread_sees_its_own_passes_through_a_shared_model():
    model, together = nn.Sequential(nn.Linear(1, 1), nn.ReLU()), threading.Barrier(3)

    def wrong(thread):
        x, count = torch.full((2, 1), float(thread)), 0
        for _ in range(30):
            with tap(model, ["0"]) as seen:
                together.wait(30)
                model(x)
                together.wait(30)
            count += not torch.equal(seen["0"].pre, x)
        return count

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(wrong, range(3))) == [0, 0, 0]


def test_a_pass_that_fails_has_ended():
    model, x = ByMethods(), torch.randn(5, 4)
    with tap(model, ["f"]) as seen:
        with pytest.raises(RuntimeError):
            model(torch.randn(5, 7))
        model(x)
    assert torch.equal(seen["f"].pre, x)


def wrapped(model, monkeypatch):
    """What stands around a model on several devices or processes, but for the devices and processes."""
    monkeypatch.setattr(nn.parallel.DistributedDataParallel, "__init__", lambda self, module: nn.Module.__init__(self))
    monkeypatch.setattr(nn.parallel.DistributedDataParallel, "forward", lambda self, x: self.module(x))
    processes = nn.parallel.DistributedDataParallel(model)
    processes.module = model
    return [nn.DataParallel(model), processes, nn.DataParallel(torch.compile(model, backend="eager"))]


def test_names_look_through_what_wraps_the_model(monkeypatch):
    model, x = ByMethods(), torch.randn(5, 4)
    for outer in wrapped(model, monkeypatch):
        with tap(outer, ["f"]) as seen:
            outer(torch.randn(2, 4))
            outer(x)
        assert torch.equal(seen["f"].pre, x)
        (own,) = [name for name, layer in outer.named_modules() if layer is model.f]
        with tap(outer, own) as seen:
            outer(x)
        assert torch.equal(seen[own].pre, x)
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (lambda m: m.f, "given by their names, got a Linear; it is called 'f'"),
        (lambda m: [m.f], "given by their names, got a Linear; it is called 'f'"),
        (lambda m: [nn.Linear(2, 2)], r"they stand in model\.named_modules"),
        (lambda m: [0], "given by their names, got a int"),
        (lambda m: "g", "unknown layer 'g'"),
        (lambda m: {"f": Oja}, r"rule of layer 'f' is the class Oja; make one with Oja\(\)"),
    ],
)
def test_names_that_are_none_are_refused(names, words):
    model = ByMethods()
    with pytest.raises(Refusal, match=words), tap(model, names(model)):
        pass


def test_a_single_name_serves_and_a_class_is_no_model():
    model, x = ByMethods(), torch.randn(5, 4)
    with tap(model, "f") as seen:
        model(x)
    assert torch.equal(seen["f"].pre, x)
    with pytest.raises(Refusal, match=r"an nn\.Module that was made, got the class ByMethods"), tap(ByMethods, ["f"]):
        pass


@pytest.mark.parametrize("rule", [Oja(), KrotovHopfield(k=2), BCM()], ids=repr)
def test_activity_that_was_not_unpacked_and_a_rule_that_was_not_made_are_refused(rule):
    model, x = ByMethods(), torch.randn(5, 4)
    with tap(model, ["f"]) as seen:
        model(x)
    with pytest.raises(Refusal, match=r"got Activity; unpack what tap recorded: rule\(layer, \*seen\[name\]\)"):
        rule(model.f, seen["f"])
    with pytest.raises(Refusal, match=r"make the rule first: \w+\(\)\(layer, pre, post\)"):
        type(rule)(model.f, *seen["f"])
    with pytest.raises(Refusal, match="a change is a tensor, got Activity"):
        propose_(model.f, seen["f"])


def test_attach_looks_through_wrappers_and_refuses_layers_out_of_reach(monkeypatch):
    model, x = ByMethods(), torch.randn(50, 4)
    parallel, processes, compiled = wrapped(model, monkeypatch)
    for outer in parallel, compiled:
        learner = attach(outer, {"f": HardWTA()}, x)
        learner.propose_(x)
        assert learner.model is model
        model.zero_grad()
    with pytest.raises(Refusal, match=r"DistributedDataParallel shares gradients only.*share\(model\.module\)"):
        attach(processes, {"f": HardWTA()}, x)
    with pytest.raises(Refusal, match="no pass of the block has reached layer 'unused'"):
        attach(model, {"f": HardWTA(), "unused": HardWTA()}, x)
