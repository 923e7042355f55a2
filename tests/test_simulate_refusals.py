"""What `simulate` and its networks refuse in one line, where numbers would be wrong or memory of others be read."""

import pytest
import torch
from torch import nn

from neuropil.errors import Diverged, Refusal
from neuropil.models import ContrastLatency, FirstSpikeConv2d, PlasticLayer
from neuropil.plasticity import PairSTDP, RewardModulated
from neuropil.spiking import (
    AdaptiveLIF,
    AxonalDelay,
    ConductanceLIF,
    CurrentLIF,
    DeltaLIF,
    LatencyEncoding,
    LinearTimeEncoding,
    SpikingSequential,
    ThresholdEncoding,
    lateral_inhibition,
    simulate,
)

DRIVE = (torch.rand(70, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.7).float()
RULE = PairSTDP()


def plastic(neuron):
    torch.manual_seed(0)
    return PlasticLayer(nn.Linear(4, 4, bias=False), neuron, RULE, lr=0.01)


def row(*neurons):
    return SpikingSequential(*[part for neuron in neurons for part in (nn.Linear(4, 4), neuron)])


@pytest.mark.parametrize(
    ("of", "given", "got"),
    [
        (DeltaLIF(), AdaptiveLIF(), "got DeltaState in place of AdaptiveState"),
        (CurrentLIF(), AdaptiveLIF(), "got LIFState in place of AdaptiveState"),
        (plastic(DeltaLIF()), plastic(CurrentLIF()), "got DeltaState in place of LIFState"),
        (row(CurrentLIF()), row(AdaptiveLIF()), "got LIFState in place of AdaptiveState"),
        (row(CurrentLIF()), row(CurrentLIF(), CurrentLIF()), "got 2 parts of a tuple in place of 4"),
        (AxonalDelay(3e-3), AxonalDelay(9e-3), "got 3 parts of a tuple in place of 9"),
        (CurrentLIF(), row(CurrentLIF()), "got LIFState in place of tuple"),
    ],
)
def test_a_state_of_another_network_is_refused(of, given, got):
    state = simulate(of, DRIVE).state
    with pytest.raises(Refusal, match=f"simulate needs a state of this network, {got}; .* or none to start anew"):
        simulate(given, DRIVE, state)


@pytest.mark.parametrize("network", [CurrentLIF(), row(DeltaLIF()), plastic(CurrentLIF())])
def test_a_state_of_another_batch_is_refused_and_its_own_goes_on(network):
    state = simulate(network, DRIVE).state
    for samples in (1, 2, 4):  # one of one sample would serve many
        with pytest.raises(Refusal, match=r"got \(3, 4\) in place of"):
            simulate(network, DRIVE[:, :1].expand(-1, samples, -1), state)
    assert simulate(network, DRIVE, state).counts.shape == (3, 4)


def test_a_network_refuses_too_few_states_in_a_loop_of_ones_own():
    network = row(CurrentLIF(), CurrentLIF())
    with pytest.raises(Refusal, match="a network of 4 layers needs a state of each, got 2"):
        network.step(DRIVE[0], network.init(DRIVE[0])[:2])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float16, torch.bfloat16, torch.float64])
def test_spikes_are_counted_beyond_what_their_type_can_count(dtype):
    drive = torch.ones(700, 2, 3, dtype=dtype)
    counts = simulate(DeltaLIF(bias=500.0), drive).counts
    assert counts.dtype == {torch.float64: dtype, torch.float16: torch.float32, torch.bfloat16: torch.float32}.get(
        dtype, torch.int64
    )
    assert (counts == 700).all()


def test_steps_of_different_length_and_neurons_with_two_inputs_are_refused():
    with pytest.raises(Refusal, match=r"one step for all, got dt=0\.0001 and 0\.001, in s"):
        SpikingSequential(CurrentLIF(dt=1e-4), AxonalDelay(3e-3), nn.Linear(4, 4), CurrentLIF(dt=1e-4))
    with pytest.raises(Refusal, match=r"one step for all, got dt=0\.0005 and 0\.001"):
        SpikingSequential(plastic(CurrentLIF()), nn.Linear(4, 4), DeltaLIF(dt=5e-4))
    said = "needs a step that takes spikes and a state, but ConductanceLIF takes excitation, inhibition, state"
    for use in (
        lambda: simulate(ConductanceLIF(), DRIVE),
        lambda: SpikingSequential(nn.Linear(4, 4), ConductanceLIF()),
        lambda: plastic(ConductanceLIF()),
    ):
        with pytest.raises(Refusal, match=said):
            use()


def test_rules_that_a_layer_cannot_serve_are_refused():
    layer = nn.Linear(4, 4)
    with pytest.raises(Refusal, match=r"no reward to give to RewardModulated; call rule\.step in a loop of your own"):
        PlasticLayer(layer, CurrentLIF(), RewardModulated(RULE), lr=0.1)


@pytest.mark.parametrize("kind", [nn.Linear(4, 4, bias=False), nn.Conv1d(4, 4, 1, bias=False)])
def test_weights_stay_after_eval_and_learn_again_after_train(kind):
    layer = PlasticLayer(kind, DeltaLIF(threshold=0.1), PairSTDP(a_minus=0.3), lr=0.01, low=0.05, high=0.1)
    network, drive = SpikingSequential(layer), (DRIVE if isinstance(kind, nn.Linear) else DRIVE[..., None])
    before = kind.weight.detach().clone()
    still = simulate(network.eval(), drive)
    assert torch.equal(kind.weight, before)
    assert any((trace != 0).any() for trace in still.state[0].traces)
    simulate(network.train(), drive)
    assert not torch.equal(kind.weight, before)


def test_what_is_not_a_number_is_told():
    for drive in (DRIVE * torch.nan, torch.where(torch.arange(70)[:, None, None] == 5, torch.nan, DRIVE)):
        for network in (CurrentLIF(), row(AdaptiveLIF())):
            with pytest.raises(Diverged, match="simulate ended with neurons that are NaN; look for NaN or infinity"):
                simulate(network, drive)


def test_a_state_of_ones_own_that_is_no_number_is_told():
    class Own:
        def init(self, like):
            return {"v": torch.zeros_like(like)}

        def step(self, x, state):
            return (state["v"] > 1).to(x), {"v": state["v"] + x}

    with pytest.raises(Diverged, match="neurons that are NaN"):
        simulate(Own(), DRIVE * torch.nan)


def test_what_is_recorded_has_to_be_a_tensor():
    with pytest.raises(Refusal, match="record gives tensors by name, got float as 'n'"):
        simulate(CurrentLIF(), DRIVE, record=lambda out, state: {"n": out.sum().item()})


def test_lateral_inhibition_takes_units_not_maps():
    with pytest.raises(Refusal, match=r"shaped \(batch, units\), got \(1, 3, 4, 4\); flatten maps first"):
        lateral_inhibition(torch.ones(1, 3, 4, 4), 1.0)


def test_bytes_are_no_contrast_and_no_images_have_no_winners():
    with pytest.raises(Refusal, match=r"numbers in \[0, 1\], got torch.uint8; take split.pixels\(\)"):
        ContrastLatency()(torch.full((1, 1, 9, 9), 200, dtype=torch.uint8))
    seen, won = FirstSpikeConv2d(2, 5, 3, threshold=1.0).compete(torch.zeros(0, 2, 6, 6), winners=3, radius=1)
    assert (seen.shape, won.shape) == ((0, 18), (0, 5))


def test_one_reward_may_be_a_number():
    layer, rule = nn.Linear(2, 1, bias=False), RewardModulated(RULE, per_sample=False)
    pre, post = torch.ones(3, 2), torch.ones(3, 1)
    memory = rule.step(layer, pre, 0 * post, rule.init(layer, pre, post), reward=0.0)[1]
    number = rule.step(layer, 0 * pre, post, memory, reward=0.37)[0]
    assert torch.equal(number, rule.step(layer, 0 * pre, post, memory, reward=torch.tensor(0.37))[0])
    assert (number > 0).all()


@pytest.mark.parametrize("kind", [CurrentLIF, DeltaLIF, AdaptiveLIF, ConductanceLIF])
def test_a_refractory_time_of_which_no_step_is_left_is_told(kind):
    assert kind(refractory=0.51e-3, dt=1e-3)
    assert kind(refractory=0.0, dt=1e-3)
    for none in (0.4e-3, 0.5e-3):
        with pytest.warns(UserWarning, match=r"no refractory time: 0.000. s is less than half a step of 0.001 s"):
            kind(refractory=none, dt=1e-3)
    for wrong in (-1e-3, 2.0):
        with pytest.raises(Refusal, match="refractory from 0 to 1, in s"):
            kind(refractory=wrong)


@pytest.mark.parametrize("encode", [LatencyEncoding(), ThresholdEncoding(), LinearTimeEncoding()])
def test_bytes_and_nan_are_no_spike_times(encode):
    with pytest.raises(Refusal, match=r"needs values in a floating dtype, got torch.uint8; give split.pixels\(\)"):
        encode(torch.tensor([[0, 64, 255]], dtype=torch.uint8))
    with pytest.raises(Refusal, match="needs numbers, got NaN in 1 of 2 examples"):
        encode(torch.tensor([[0.2, torch.nan], [0.1, 0.2]]))


def test_a_layer_in_the_place_of_another_one_is_the_layer():
    network = row(DeltaLIF(tau=5e-3))
    assert simulate(network, DRIVE * 99).counts.sum() > 0
    setattr(network, "0", nn.Linear(4, 4, bias=False))
    nn.init.zeros_(network.layers[0].weight)
    assert network.layers[0] is network.get_submodule("0")
    assert simulate(network, DRIVE * 9).counts.sum() == 0
    assert network.step(DRIVE[0] * 9, network.init(DRIVE[0]))[0].sum() == 0
