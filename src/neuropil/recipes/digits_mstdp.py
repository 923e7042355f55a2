"""mSTDP on 8x8 digits: one network of STDP synapses classifies, generates and completes, beside its baselines.

Hidden units form three populations: one classifies whole images, one classifies partly known images, one generates
images. All share the same pixels and labels. Our reconstruction from the abstract of Li 2019 (arXiv 1912.00009); with
--extrapolation it is aSTDP, from the abstract of Li 2022 (arXiv 2206.14137).

Measured: test, mean and 95 % interval over 5 splits: 98.27 +- 0.57 % (backprop of the same layer with the same
augmentation 99.00 +- 0.72, frozen images 98.16 +- 0.58, random features 97.83 +- 0.62, linear 96.10 +- 0.55).

Group: start here. Minutes: 0.3. Data: digits.

Try: neuropil run digits_mstdp --seed 5 --seeds 5 --out runs/digits_mstdp
Then: neuropil generate runs/digits_mstdp/seed-5
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from torch import Generator

from neuropil.associative import (
    AssociativeNetwork,
    AssociativeTraining,
    DerivativeTargets,
    Nudge,
    Sampling,
    Settling,
)  # fmt: skip
from neuropil.associative.tasks import CLASSIFY, CLASSIFY_PARTIAL, GENERATE
from neuropil.data import Split
from neuropil.errors import at_least
from neuropil.experiments.associative import distortion, end_to_end, random_examples, random_features
from neuropil.experiments.baselines import linear
from neuropil.experiments.comparison import Comparison, Method, run_comparison
from neuropil.experiments.generation import log_generation_scores
from neuropil.experiments.settings import ComparisonSettings
from neuropil.models import Distort
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(ComparisonSettings):
    """Chosen on images held out of the training images."""

    shares: ClassVar[bool] = True
    data: str = "digits"  # data set: digits, mnist, fashion_mnist; or images of your own, by path
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself

    # hidden units of each layer between pixels and label; the baselines have the same layers
    classification_units: tuple[int, ...] = (256,)
    # with two or more layers: pixels project to every layer, and every layer projects to the label and back
    skip_connections: bool = False
    generation_units: int = 128  # hidden units that generate images; 0 for a network that only classifies
    completion_units: int = 128  # hidden units that classify images with missing pixels; 0 for none
    init_gain: float = 1.0  # spread of the first weights of units that classify, relative to Glorot's initialisation

    # classification tasks for each generation task in a step, and as many with missing pixels if any unit does that
    n_classify: int = 1
    occlusion_probability: float = 0.0  # probability that the missing pixels of a training image are a rectangle
    # augmentation: largest rotation of an image in degrees, for the baseline trained by backprop too
    rotation: float = 8.0
    scale: float = 0.05  # augmentation: largest relative change of size and shear (0.1 = ten per cent)
    shift: float = 0.5  # augmentation: largest shift in pixels
    epochs: int = 50  # passes over the training images
    batch: int = 50  # images in a step
    classification_lr: float = 3e-3  # learning rate of synapses onto units that classify
    label_lr: float = 1e-2  # learning rate of synapses onto the label units
    generation_lr: float = 2e-3  # learning rate of synapses onto units that generate
    pixel_lr: float = 1e-2  # learning rate of synapses onto the pixels
    lr_decay: float = 0.95  # factor of all learning rates after each epoch

    max_iterations: int = 4  # most iterations of settling during training; ten times as many in use
    step_size: float = 1.0  # step size of settling, from 0 to 1
    tolerance: float = 1e-2  # activity has settled when no free unit is further than this from where its drive sends it
    momentum: float = 0.0  # momentum of settling, from 0 to 1
    free_unit_gain: float = 0.1  # fraction of its activity that a missing pixel sends to other units
    nudge_steps: int = 3  # iterations of the nudged phase
    nudge_beta: float = 0.5  # strength with which the nudge pulls units towards the data
    # factor by which aSTDP extrapolates the effect of the nudge; 0 for mSTDP, which does not
    extrapolation: float = 0.0
    # synapses learn from how far the nudge took a unit beyond where it went without: for a short free phase
    control: bool = False
    derivative_targets: bool = False  # label units set themselves targets from their own derivative while they settle

    n_samples: int = 100  # generated images of each class that are scored
    contrast: float = 1.0  # contrast with which generated pixels are shown; 1 shows mean values
    # a generated image is accepted if the score of its class exceeds all others by this much; 0 accepts every image
    accept_margin: float = 0.8
    round_iterations: int = 0  # most iterations of settling in a round of sampling; 0 for as many as in training

    # methods to run: mstdp (astdp with --extrapolation), backprop, random_examples, random_features, linear; all if
    # none is named
    learners: tuple[str, ...] = ()
    backprop_epochs: int = 50  # passes over the training images of the baseline trained by backprop
    backprop_min_steps: int = 1500  # fewest steps of that baseline

    def __post_init__(self) -> None:
        at_least(2, self, "n_samples")
        at_least(0, self, "round_iterations")


def main(config: Config, run: Run) -> None:
    """One seed of the network and its baselines: fitted, scored on the test images, logged and saved."""
    run_comparison(comparison(config), (), run, after=partial(log_generation_scores, each=config.n_samples))


def comparison(config: Config) -> Comparison:
    """The methods and the data."""
    units, epochs, steps = config.classification_units, config.backprop_epochs, config.backprop_min_steps
    methods: dict[str, Callable[..., Method]] = {
        "astdp" if config.extrapolation else "mstdp": associative,
        "backprop": lambda _, *given: end_to_end(
            *given, units=units, epochs=epochs, min_steps=steps, augment=augment(config)
        ),
        "random_examples": lambda _, *given: random_examples(*given, units=units),
        "random_features": lambda _, *given: random_features(*given, units=units),
        "linear": lambda _, *given: linear(*given),
    }
    return config.plan(methods, config.data, min_side=4)


def associative(config: Config, train: Split, rng: Generator) -> Method:
    """Pixels, label and hidden units connected both ways; every synapse learns by the differential Hebbian rule.

    https://arxiv.org/abs/1912.00009
    """
    return Method("aSTDP" if config.extrapolation else "mSTDP", "local", network(config), competes=False)


def network(config: Config) -> AssociativeNetwork:
    """The network, untrained."""
    units = (config.classification_units, config.generation_units, config.completion_units)
    most, tolerance, gain = config.max_iterations, config.tolerance, config.free_unit_gain
    targets = DerivativeTargets() if config.derivative_targets else None
    settling = Settling(most, config.step_size, config.momentum, tolerance, 2, gain, targets)
    return AssociativeNetwork(
        *units,
        settling=settling,
        nudge=Nudge(config.nudge_steps, config.nudge_beta, config.extrapolation or None, config.control),
        training=training(config),
        sampling=sampling(config),
        skip_connections=config.skip_connections,
        init_gains={"classification": config.init_gain, "completion": config.init_gain},
    )


def sampling(config: Config) -> Sampling:
    """How images are generated."""
    margin, most = config.accept_margin or None, config.round_iterations or None
    return Sampling(contrast=config.contrast, accept_margin=margin, max_iterations=most)


def training(config: Config) -> AssociativeTraining:
    """Every batch goes through all tasks in turn."""
    partial_tasks = config.n_classify if config.completion_units else 0
    tasks = [CLASSIFY] * config.n_classify + [CLASSIFY_PARTIAL] * partial_tasks
    tasks += [GENERATE] if config.generation_units else []
    lr = {"classification": config.classification_lr, "completion": config.classification_lr, "label": config.label_lr}
    return AssociativeTraining(
        tuple(replace(task, occlusion_probability=config.occlusion_probability) for task in tasks),
        epochs=config.epochs,
        batch=config.batch,
        learning_rates={**lr, "generation": config.generation_lr, "pixels": config.pixel_lr},
        lr_decay=config.lr_decay,
        augment=augment(config),
    )


def augment(config: Config) -> Distort | None:
    """How images are changed when they are classified."""
    return distortion(config.rotation, config.scale, config.shift)
