from pathlib import Path

import numpy as np
import pytest

from svhn_sweep.config.data_sources import AutoConfig, SvhnConfig, SyntheticConfig
from svhn_sweep.data import load, resolve
from svhn_sweep.data.synthetic import generate


def test_digits_depend_on_the_seed() -> None:
    first, second, other = (generate(30, seed=(seed,)) for seed in (1, 1, 2))
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
    assert (first[0] != other[0]).any()


def test_digits_are_balanced_grey_crops() -> None:
    images, labels = generate(50, seed=(3,))
    assert images.shape == (50, 32, 32)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 255
    assert (np.bincount(labels) == 5).all()
    assert images.std(axis=(1, 2)).min() > 1  # no crop is blank


def test_digits_are_generated_once_then_read(tmp_path: Path) -> None:
    config = SyntheticConfig(folder=str(tmp_path), train_size=20, test_size=10, seed=5)
    first = load(config, test=True)
    modified = first.path.stat().st_mtime_ns
    second = load(config, test=True)
    assert first.path.stat().st_mtime_ns == modified
    assert first.sha256 == second.sha256
    assert (first.source, len(first.x_train)) == ("synthetic", 20)
    assert first.x_test is not None
    assert len(first.x_test) == 10


def test_train_and_test_share_no_crop(tmp_path: Path) -> None:
    splits = load(
        SyntheticConfig(folder=str(tmp_path), train_size=50, test_size=50, seed=5), test=True
    )
    assert splits.x_test is not None
    assert not {image.tobytes() for image in splits.x_train} & {
        image.tobytes() for image in splits.x_test
    }


def test_a_path_below_the_home_folder_is_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert resolve(SvhnConfig("~/a.h5")) == SvhnConfig("/home/me/a.h5")
    assert resolve(SyntheticConfig("~/d", 20, 10, 5)) == SyntheticConfig("/home/me/d", 20, 10, 5)


def test_auto_means_the_course_file_if_it_exists(tmp_path: Path) -> None:
    synthetic = SyntheticConfig(folder=str(tmp_path), train_size=20, test_size=10, seed=5)
    course_file = tmp_path / "SVHN_single_grey1.h5"
    auto = AutoConfig(path=str(course_file), synthetic=synthetic)
    assert resolve(auto) == synthetic
    # loading it fails
    assert resolve(auto, path_given=True) == SvhnConfig(path=str(course_file))
    course_file.touch()
    assert resolve(auto) == SvhnConfig(path=str(course_file))
