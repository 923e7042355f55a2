"""Data sets of other libraries as splits: pairs of torchvision, mappings of Hugging Face, loaders, streams."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from neuropil import Split
from neuropil.errors import Refusal
from test_own_data import BYTES, LABELS


class Photos(Dataset):
    """As torchvision's: images of pillow, and the names of the classes."""

    classes = ("ape", "cat", "dog")

    def __len__(self):
        return len(BYTES)

    def __getitem__(self, index):
        return Image.fromarray(BYTES[index]).convert("RGB"), int(LABELS[index])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(TensorDataset(torch.tensor(BYTES[:, None]), torch.tensor(LABELS)))


def test_datasets_and_loaders_give_what_their_items_are():
    want = torch.tensor(BYTES)
    photos = Split.from_dataset(Photos())
    assert (photos.x.shape, photos.names) == ((15, 3, 5, 7), ("ape", "cat", "dog"))
    assert torch.equal(photos.x[:, 2], want)
    assert Split.from_dataset(Subset(Photos(), [0, 1])).names == photos.names
    tensors = TensorDataset(want[:, None] / 255, torch.tensor(LABELS))
    for given in (tensors, DataLoader(tensors, batch_size=5)):
        split = Split.from_dataset(given)
        assert torch.equal(split.x[:, 0], want / 255)
        assert split.y.tolist() == LABELS.tolist()
    assert torch.equal(Split.from_dataset(Stream()).x[:, 0], want)
    with pytest.raises(Refusal, match=r"pairs .* got Tensor as item 0"):
        Split.from_dataset(want)
    with pytest.raises(Refusal, match="at least one example"):
        Split.from_dataset([])


class Hugging:
    """As Hugging Face's: items are mappings, and the names of the classes are among the features."""

    features = {"label": SimpleNamespace(names=["ape", "cat", "dog"]), "img": None}
    more: dict[str, int] = {}

    def __len__(self):
        return len(BYTES)

    def __getitem__(self, index):
        return {"label": int(LABELS[index]), "img": Image.fromarray(BYTES[index]), **self.more}


def test_items_that_are_mappings_have_an_example_and_a_label(monkeypatch):
    photos = Split.from_dataset(Hugging())
    assert (photos.x.shape, photos.names, photos.y.tolist()) == ((15, 1, 5, 7), ("ape", "cat", "dog"), LABELS.tolist())
    assert torch.equal(photos.x[:, 0], torch.tensor(BYTES))
    assert Split.from_dataset(Subset(Hugging(), [0, 1])).names == photos.names
    batches = DataLoader([{"target": k % 2, "x": torch.full((3,), k / 8)} for k in range(8)], batch_size=3)
    assert torch.equal(Split.from_dataset(batches).x, torch.arange(8)[:, None].expand(-1, 3) / 8)
    monkeypatch.setattr(Hugging, "more", {"id": 5})
    with pytest.raises(Refusal, match=r"an example and a label .*, got 'label', 'img', 'id'; leave the others out"):
        Split.from_dataset(Hugging())


def test_a_dictionary_of_data_sets_and_items_without_a_label_are_told_apart():
    with pytest.raises(Refusal, match="takes one data set, got dict of 'train', 'test'"):
        Split.from_dataset({"train": Hugging(), "test": Hugging()})
    with pytest.raises(Refusal, match=r"got 'class', 'image'; give the label one of these names"):
        Split.from_dataset([{"class": 1, "image": BYTES[0]}])


def test_labels_that_leave_most_classes_empty_are_refused():
    with pytest.raises(Refusal, match=r"labels up to 100000 of 15 examples .* say classes=100001"):
        Split.from_numpy(BYTES, [100_000, *LABELS[1:]])
    assert Split.from_numpy(BYTES, [100_000, *LABELS[1:]], classes=100_001).classes == 100_001
    assert Split.from_numpy(BYTES, [999, *LABELS[1:]]).classes == 1000
