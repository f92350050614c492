"""Images are flipped and moved, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autosparse.errors import ConfigError
from autosparse.recovery.augmentation import augmented, check_augmentation
from autosparse.tensor_spec import TensorSpec

IMAGES = torch.arange(4 * 3 * 16 * 16, dtype=torch.float32).reshape(4, 3, 16, 16)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_image_is_flipped_or_as_it_was() -> None:
    seen = set()
    for seed in range(4):
        changed = augmented({"x": IMAGES}, ["flip"], drawn(seed))["x"]
        for before, after in zip(IMAGES, changed, strict=True):
            flipped = torch.equal(after, before.flip(-1))
            assert flipped or torch.equal(after, before)
            seen.add(flipped)
    assert seen == {True, False}


def test_an_image_is_moved_by_an_eighth_of_its_side_at_most() -> None:
    changed = augmented({"x": IMAGES}, ["shift"], drawn())["x"]
    assert changed.shape == IMAGES.shape
    moves = set()
    for before, after in zip(IMAGES, changed, strict=True):
        # the middle of the image is still there, moved by as much in every channel
        row, column = divmod(int(after[0, 8, 8] - before[0, 0, 0]), 16)
        down, right = row - 8, column - 8
        assert abs(down) <= 2
        assert abs(right) <= 2
        assert torch.equal(
            after[:, 4:12, 4:12], before[:, 4 + down : 12 + down, 4 + right : 12 + right]
        )
        moves.add((down, right))
    assert len(moves) > 1


def test_what_is_no_image_stays() -> None:
    tokens = torch.arange(12).reshape(3, 4)
    changed = augmented({"ids": tokens, "x": IMAGES[:3]}, ["flip", "shift"], drawn())
    assert torch.equal(changed["ids"], tokens)


def test_the_same_chances_give_the_same_images() -> None:
    first, second = (augmented({"x": IMAGES}, ["flip", "shift"], drawn(5))["x"] for _ in range(2))
    assert torch.equal(first, second)


def test_augmentation_of_what_is_no_image_is_refused() -> None:
    tokens = TensorSpec("ids", np.dtype(np.int64), ("batch", 128))
    with pytest.raises(ConfigError, match="--augment flip is for images"):
        check_augmentation(("flip",), [tokens])
    check_augmentation((), [tokens])
