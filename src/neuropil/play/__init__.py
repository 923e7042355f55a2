"""A page to play with: an associative network in one HTML file that reads, completes and samples without a server."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from gzip import compress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from neuropil.associative import AssociativeNetwork
from neuropil.associative.connectivity import LABEL, PIXELS
from neuropil.associative.inference import CLOSER, COMPLETED_WEIGHT, PATIENCE
from neuropil.associative.sampling import RESAMPLED
from neuropil.data import Split
from neuropil.errors import require
from neuropil.models.saving import read_model

__all__ = ["LARGEST", "Layout", "render"]

HERE = Path(__file__).parent
SCRIPTS = ("network.js", "paper.js", "page.js", "controls.js")
LARGEST, REST = 2_000_000, 60_000  # bytes of a page, and of all in it but weights; large networks get coarser weights
PRECISIONS = ("int8", "int7", "int6")
CONSTANTS = {"patience": PATIENCE, "closer": CLOSER, "completed_weight": COMPLETED_WEIGHT, "resampled": RESAMPLED}


@dataclass(frozen=True)
class Layout:
    """How the images of a data set were centred and scaled; what is written is treated in the same way.

    Attributes:
        fit: "longest" if the longer side fills the box. "height" if the height does; what is too wide is squeezed.
            "none" if nothing was scaled.
        box: width and height of the box, in pixels.
        centre: what is in the middle, the "mass" of the ink or the "box".
        middle: where the centre of mass lies, in pixels across and down.
        pen: thinnest and widest pen, in pixels.
        ink: sum over an image to which the width of the pen is adapted; 0 keeps the thinnest.
        shown: width of the pen on the paper, relative to it.
    """

    fit: str = "none"
    box: tuple[float, float] = (0.0, 0.0)
    centre: str = "box"
    middle: tuple[float, float] = (0.0, 0.0)
    pen: tuple[float, float] = (1.0, 1.0)
    ink: float = 0.0
    shown: float = 0.07


LAYOUTS = {  # measured on the training images
    "mnist": Layout("longest", (20, 20), "mass", (14.5, 14.5), (2.3, 2.3)),
    "digits": Layout("height", (6, 8), "box", pen=(1.0, 2.6), ink=19.6),
}


def render(
    network: AssociativeNetwork, about: Mapping[str, Any], test: Split | None = None, *, largest: int = LARGEST
) -> tuple[str, str]:
    """(the page, the precision to which its weights are rounded).

    Args:
        network: fitted, for grey images.
        about: what the file of the network says of it.
        test: images to take as examples, one of each class, and to count those that the page classifies correctly.
        largest: bytes of a page. A network for which that is too few gets the coarsest weights.

    Raises:
        Refusal: the network is for images in colour or for vectors.

    Examples:
        >>> import neuropil as npl
        >>> page, precision = render(npl.load("digits-mstdp"), {"data": "digits"})
        >>> precision, len(page) < LARGEST
        ('int8', True)
    """
    shape = tuple(network.shape_)
    grey = len(shape) == 3 and shape[0] == 1
    require(grey, f"a page needs a network for grey images, (1, height, width), got {shape}; take digits-mstdp.")
    layout = LAYOUTS.get(about.get("data", ""), Layout(pen=(shape[1] / 11,) * 2))
    weights, precision, rounded = fitting(network, largest)
    told = (test is not None and test.names) or network.names_
    names = [*(told or map(str, range(network.classes_)))]
    examples = [] if test is None else examples_of(test)
    facts = {"classes": names, "layout": asdict(layout), "examples": examples, "constants": CONSTANTS}
    script = "".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("page.html").render(
        digest=b64encode(sha256(script.encode()).digest()).decode(),
        style=Markup((HERE / "play.css").read_text(encoding="utf-8")),
        script=Markup(script),
        facts=Markup(json.dumps(facts).replace("<", "\\u003c")),
        weights=weights,
        **texts(network, about, layout, "" if test is None else accuracy_of(rounded, test)),
    )
    return page, precision


def fitting(network: AssociativeNetwork, largest: int) -> tuple[str, str, AssociativeNetwork]:
    """(the file of the network as text, its precision, the network in it), as fine as a page can hold."""
    with TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            file = network.save(Path(folder) / "network.safetensors", precision=precision)
            text = b64encode(compress(file.read_bytes(), 9, mtime=0)).decode()
            if len(text) < largest - REST:
                break
        return text, precision, read_model(file)


def accuracy_of(network: AssociativeNetwork, test: Split) -> str:
    """A sentence."""
    labelled = test.labelled()
    right = float((network.predict(labelled.pixels()) == labelled.y).double().mean())
    return f"It classifies {100 * right:.2f} % of {len(labelled):,} test images correctly."


def examples_of(test: Split) -> list[dict[str, Any]]:
    """The first image of each class, as the page reads it."""
    labels = [label for label in range(test.classes) if bool((test.y == label).any())]
    first = [int((test.y == label).nonzero()[0, 0]) for label in labels]
    images = (test[first].pixels() * 255).round().byte().flatten(1).cpu().numpy()
    return [{"label": label, "pixels": b64encode(image.tobytes()).decode()} for label, image in zip(labels, images)]


def texts(network: AssociativeNetwork, about: Mapping[str, Any], layout: Layout, right: str) -> dict[str, str]:
    """What the page says of this network."""
    hidden = sum(units for name, units in network.net_.sizes.items() if name not in (PIXELS, LABEL))
    of = f" on {about['data']}" if about.get("data") else ""
    margin, attempts = network.sampling.accept_margin, network.sampling.max_attempts
    again = f"A sample that the network does not read as what was asked is made again, up to {attempts} times in all."
    as_trained = "What is written is centred and scaled as the images were from which the network learned."
    return {
        "title": "Write, and a network reads along",
        "summary": f"{hidden:,} hidden units learned{of} by {about.get('name', 'mSTDP')}, a rate form of spike-timing-"
        f"dependent plasticity. {right} One network reads, completes and writes. It runs in this page, and nothing is "
        "sent anywhere.",
        "seen": "What is written comes here as it is." if layout.fit == "none" else as_trained,
        "again": "" if margin is None else again,
    }
