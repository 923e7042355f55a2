"""One network of visible and hidden units that classifies, generates and completes, and learns by STDP alone."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import torch
from torch import Generator, Size, Tensor, nn
from torch.nn import functional as F

from neuropil.associative.checks import check_examples, check_labels, check_mask, check_pixels
from neuropil.associative.connectivity import LABEL, PIXELS, Connectivity, bidirectional
from neuropil.associative.inference import Filling, class_scores, differentiable_scores, masked_scores
from neuropil.associative.learning import Traces, apply_rule_, clamp_task, pseudo_labels, step_
from neuropil.associative.sampling import Samples, Sampling
from neuropil.associative.settling import Nudge, Settling, send
from neuropil.associative.targets import DerivativeTargets
from neuropil.associative.tasks import CLASSIFY, GENERATE, Task
from neuropil.associative.training import GAINS, AssociativeTraining, EpochStatistics, by_role
from neuropil.data import Split
from neuropil.errors import Diverged, needs_numbers, require
from neuropil.models.contract import FeatureLayer, Model, as_examples, begin_fit, not_fitted
from neuropil.models.description import savable
from neuropil.plasticity.joint import WHOLE, Portion, joined
from neuropil.runs.checkpoint import Stateful
from neuropil.runs.rows import EpochRow
from neuropil.runs.tracker import NullTracker, Tracker

FIRST = "classification1"  # the hidden population whose receptive fields are looked at


class AssociativeNetwork(Model):
    r"""Pixels, label and hidden units connected both ways; each visible population is input and output.

    Classify: pixels are clamped, the network settles, the label is read. Generate: the label is clamped, pixels are
    read. Complete: any pixels are clamped. The network is never rewired for one or the other.

    Every synapse proposes :math:`\Delta w_{ij} = s_j (s_i' - s_i)`: what its presynaptic unit sent before a nudge,
    times how far the nudge moved its postsynaptic unit. This is the rate form of STDP, see `DifferentialHebb`. Adam
    scales a change by the synapse's own past changes. There is no loss, no energy, no shared weight, no backward pass.
    The units are rate units; the network has spikes only where partly known images are clamped.

    Hidden units form populations, because tasks compete for synapses. A nudge of the label changes the classification
    units and the label; a nudge of the pixels the generation units and the pixels. With ``completion_units`` these
    classify images of which pixels are missing; the classification units are silent then.

    Our reconstruction from the abstracts of Li 2019 (arXiv 1912.00009, mSTDP) and Li 2022 (arXiv 2206.14137, aSTDP);
    `Nudge.extrapolation` is the difference between the two. This mSTDP is not the reward-modulated STDP that others
    call MSTDP (Florian 2007).

    Args:
        classification_units: units of each hidden layer between pixels and label.
        generation_units: units of the population that drives the pixels; with 0 the classification units drive them.
        completion_units: units of the population that classifies partly known images; with 0 the classification units
            do it.
        settling: how activity settles.
        nudge: the nudged phase.
        training: tasks, epochs and learning rates.
        sampling: how samples are generated.
        skip_connections: whether pixels project to every classification layer, and each of these to the label.
        init_gains: spread of the first weights, by the role of the postsynaptic population, in units of Glorot's, where
            it differs from `GAINS`.

    After `fit`: ``net_`` (the weights), ``shape_`` (of an image), ``classes_``, and ``network_`` (what pixels evoke in
    the first hidden units before anything is sent back).

    Raises:
        Refusal: populations that cannot be, or that cannot be combined.

    Examples:
        >>> AssociativeNetwork((128,), generation_units=64)
        AssociativeNetwork(classification_units=(128,), generation_units=64, completion_units=0)
    """

    shares = True

    def __init__(
        self, classification_units: tuple[int, ...] = (500,), generation_units: int = 0, completion_units: int = 0, *,
        settling: Settling | None = None, nudge: Nudge | None = None, training: AssociativeTraining | None = None,
        sampling: Sampling | None = None, skip_connections: bool = False, init_gains: Mapping[str, float] | None = None,
    ):  # fmt: skip
        needs_numbers(
            self, classification_units=classification_units, generation_units=generation_units,
            completion_units=completion_units, init_gains=init_gains,
        )  # fmt: skip
        fits = len(classification_units) > 0 and min(classification_units) > 0
        require(fits, f"AssociativeNetwork needs layers of 1 unit or more, got {classification_units}.")
        units = (generation_units, completion_units)
        require(min(units) >= 0, f"AssociativeNetwork needs generation_units and completion_units >= 0, got {units}.")
        self.classification_units = tuple(classification_units)
        self.generation_units, self.completion_units = generation_units, completion_units
        self.skip_connections = skip_connections
        self.init_gains = by_role("gain", init_gains or {}, GAINS)
        self.settling, self.nudge, self.sampling = settling or Settling(), nudge or Nudge(), sampling or Sampling()
        self.training = training or AssociativeTraining(tasks=(CLASSIFY, GENERATE) if generation_units else (CLASSIFY,))
        silent = completion_units > 0 and generation_units == 0 and self.generates
        why = "completion units silence the classification units, which generate if generation_units=0; "
        require(not silent, why + "give generation units of their own.")

    if not TYPE_CHECKING:
        __getattr__ = not_fitted

    @property
    def generates(self) -> bool:
        """Whether any of its tasks has pixels as target."""
        return any(task.target == PIXELS for task in self.training.tasks)

    # Learning

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn from `train`, of which examples may lack their label."""
        begin_fit(self, train, rng)
        tracker, training = tracker or NullTracker(), self.training
        check_examples(train)
        self.initialise_(train, rng)
        batch, epochs, optimizer, schedule = training.steps(self.net_, train)
        parts: dict[str, Stateful] = {"net": self.net_, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        for epoch in tracker.loop("STDP", epochs, **parts):
            with joined(self.net_, rules=False) as part:
                statistics = EpochStatistics(part)
                for images in train.batches(batch, shuffle=rng):
                    for task in training.tasks:
                        traces = self.train_step_(task, images.x, images.y, optimizer, rng, part)
                        statistics.add(task, traces)
            schedule.step()
            self._refuse_if_diverged(statistics, epoch)
            tracker.log(EpochRow(stage="STDP", epoch=epoch, metrics=statistics.row()))
        self._expose_first_layer()
        return self

    def initialise_(self, train: Split, rng: Generator) -> Self:
        """Random weights for such data, without any training."""
        units = (self.classification_units, self.generation_units, self.completion_units)
        pixels, skip = train.x[0].numel(), self.skip_connections
        self.net_ = bidirectional(pixels, train.classes, *units, generates=self.generates, skip=skip)
        self.net_.init_(rng, self.init_gains)
        self.net_.to(train.x.device)
        self.shape_, self.classes_ = train.x.shape[1:], train.classes
        return self

    def train_step_(
        self, task: Task, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer, rng: Generator,
        part: Portion = WHOLE,
    ) -> Traces | None:  # fmt: skip
        """One task with one batch: clamp, settle, nudge, change.

        Args:
            task: what is clamped and what is nudged.
            x: (batch, *shape).
            y: (batch,) int64, -1 where a label is missing.
            optimizer: of the weights.
            rng: of augmentation, masks and spikes.
            part: what this process takes of the batch, where several learn together.

        Returns:
            What the neurons did with that part, or None if the label is the target and no image has one.
        """
        given = y
        if task.target == LABEL:
            least = task.pseudo_label_margin
            y = y if least is None else pseudo_labels(self.net_, self.settling, x, y, least, part)
            labelled = (y >= 0).nonzero().squeeze(1)
            x, y, given = x[labelled], y[labelled], given[labelled]
            if len(y) == 0:
                return None
            x = self.training.augment(x, rng) if self.training.augment else x
        x = x.flatten(1)
        label = F.one_hot(y.clamp(min=0), self.classes_).to(x)
        state, free, fixed = clamp_task(self.net_, task, x, label, y, self.shape_, rng, part)
        settled = self.settling(self.net_, state, free, fixed, part.all)
        target = part(label if task.target == LABEL else x)
        after = self.nudge(self.net_, settled.state, free, {task.target: target}, self.settling, fixed)
        before = self.nudge.without(self.net_, settled.state, free, self.settling, fixed)
        sent = {name: send(s, free.get(name), self.settling.free_unit_gain) for name, s in settled.state.items()}
        traces = Traces(sent, settled, after, before, len(x), part(given))
        apply_rule_(self.net_, task, self.nudge, traces, part)
        step_(optimizer, task.lr_scale)
        return traces

    def _refuse_if_diverged(self, statistics: EpochStatistics, epoch: int) -> None:
        finite = all(bool(part.isfinite().all()) for part in self.net_.parameters())
        what = f"diverged in epoch {epoch}: {statistics.saturated:.0%} of its hidden activity is at 0 or 1"
        cure = "lower the learning rates, or the gain of the first weights."
        if not finite or statistics.saturated >= 0.98:
            raise Diverged(f"the associative network {what}; {cure}")

    def _expose_first_layer(self) -> None:
        first = self.net_.between(PIXELS, FIRST)
        hidden = nn.Linear(first.in_features, first.out_features).requires_grad_(False).to(first.weight)
        hidden.weight.copy_(first.weight)
        hidden.bias.copy_(self.net_.bias[FIRST])
        layers = OrderedDict(flat=nn.Flatten(), hidden=hidden, active=nn.Hardtanh(0, 1))
        self.network_ = nn.Sequential(layers).eval()

    # Use

    def feature_layers(self) -> list[FeatureLayer]:
        """The hidden units that pixels reach first, and what pixels evoke in them before anything is sent back."""
        return [FeatureLayer("hidden", self.network_, self.net_.between(PIXELS, FIRST).weight)]

    def decision_function(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(n, *shape) in [0, 1] to (n, classes): the drive of each label unit once the network has settled.

        Args:
            x: images.
            mask: 1 or True where a pixel is known, shaped like `x` or like one image of it; None if all are known.
        """
        x = check_pixels(as_examples(self, x, "net_"))
        if mask is None:
            return class_scores(self.net_, self.settling, x)
        return masked_scores(self.net_, self.settling, x, check_mask(mask, x).to(x))

    def predict(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(n, *shape) to (n,) labels; `mask` as in `decision_function`."""
        return self.decision_function(x, mask).argmax(1)

    def forward(self, x: Tensor) -> Tensor:
        """`decision_function` with its gradient by `x`, all at once: exact to a few digits where all has settled."""
        return differentiable_scores(self.net_, self.settling, as_examples(self, x, "net_"))

    def complete(
        self, x: Tensor, mask: Tensor, *, labels: Tensor | None = None, rng: Generator | None = None,
        sampling: Sampling | None = None,
    ) -> Tensor:  # fmt: skip
        """Images with their missing pixels filled in, shaped like `x`.

        Args:
            x: (n, *shape) in [0, 1]; the values of missing pixels do not matter.
            mask: 1 or True where a pixel is known, shaped like `x` or like one image of it.
            labels: (n,) labels, -1 where one is unknown; without, the network settles on one by itself.
            rng: makes the result a sample; without, missing pixels are what the network expects, a mean.
            sampling: how a sample is made, if not as usual.

        Raises:
            Refusal: pixels, mask or labels of another form; a network that never learned to generate.
        """
        return self._fill(x, mask, labels, rng, sampling).images

    def generate(self, labels: Tensor, n: int, rng: Generator, *, sampling: Sampling | None = None) -> Samples:
        """`n` samples of each of `labels` (k,), one label after the other: images (k * n, *shape).

        Raises:
            Refusal: labels of another form, no samples, or a network that never learned to generate.
        """
        require(n >= 1, f"generate needs n >= 1 samples, got {n}.")
        weight = self.net_.bias[PIXELS]
        asked = check_labels(labels, self.classes_, len(labels)).to(weight.device).repeat_interleave(n)
        nothing = weight.new_zeros(len(asked), *self.shape_)
        return self._fill(nothing, torch.zeros_like(nothing), asked, rng, sampling)

    def _fill(
        self, x: Tensor, mask: Tensor, labels: Tensor | None, rng: Generator | None, sampling: Sampling | None
    ) -> Samples:
        cure = "add a task with pixels as target (GENERATE)."
        require(self.net_.generates, f"this associative network never learned to generate: {cure}")
        x = as_examples(self, x, "net_")
        mask = check_mask(mask, x).to(x)
        unknown = torch.full((len(x),), -1, device=x.device)
        labels = check_labels(unknown if labels is None else labels, self.classes_, len(x)).to(x.device)
        filling = Filling(self.net_, self.settling, rng, sampling or self.sampling)
        return filling(check_pixels(x), mask, labels)

    def loaded_(self) -> None:
        """Called when what was learned is back from a file."""
        self.shape_ = Size(self.shape_)
        self._expose_first_layer()

    def __repr__(self) -> str:
        units = ("classification_units", "generation_units", "completion_units")
        return f"AssociativeNetwork({', '.join(f'{name}={getattr(self, name)}' for name in units)})"


savable(Connectivity, DerivativeTargets, Settling, Nudge, Sampling, AssociativeTraining, Task)
savable(AssociativeNetwork, learned=("net_", "shape_", "classes_"), for_learning=("training",))
