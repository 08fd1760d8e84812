import numpy as np
import tensorflow as tf

from svhn_sweep.config.schema import AugmentationConfig
from svhn_sweep.training.batches import training_batches

Arrays = tuple[np.ndarray, np.ndarray]
AS_THEY_ARE = AugmentationConfig(enabled=False, shift=0.1, rotation=0.1, zoom=0.1)


def epoch_orders(labels: np.ndarray, seed: int, first: int = 0) -> list[list[int]]:
    """The order of the images in each epoch, from the first one to the third."""
    images = np.zeros((len(labels), 32, 32, 1), np.float32)
    images[:, 0, 0, 0] = np.arange(len(labels))
    epoch = tf.Variable(first, dtype=tf.int64)
    batches = training_batches(images, labels, 10, AS_THEY_ARE, seed, epoch)
    assert len(batches) == len(list(batches))
    orders = []
    for number in range(first, 3):
        epoch.assign(number)
        orders.append([int(pixel) for x, _ in batches for pixel in x[:, 0, 0, 0]])
    return orders


def test_each_epoch_has_every_image_once_in_its_own_order(digits: Arrays) -> None:
    orders = epoch_orders(digits[1], seed=1)
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_the_order_depends_on_seed_and_epoch_alone(digits: Arrays) -> None:
    orders = epoch_orders(digits[1], seed=1)
    assert orders == epoch_orders(digits[1], seed=1)
    assert orders != epoch_orders(digits[1], seed=2)
    assert orders[2:] == epoch_orders(digits[1], seed=1, first=2)


def test_the_end_of_a_fit_waits_for_no_autotuner(digits: Arrays) -> None:
    """The autotuner's thread sleeps ever longer, and the iterator's end joins it: 20 to 40 s."""
    batches = training_batches(*digits, 10, AS_THEY_ARE, 1, tf.Variable(0, dtype=tf.int64))
    assert batches.options().autotune.enabled is False


def test_images_keep_their_labels(digits: Arrays) -> None:
    labels = digits[1]
    values = labels.astype(np.float32)[:, None, None, None]
    images = np.broadcast_to(values, (64, 32, 32, 1)).copy()
    for x, y in training_batches(
        images, labels, 10, AS_THEY_ARE, 1, tf.Variable(0, dtype=tf.int64)
    ):
        assert (np.argmax(y, axis=1) == np.asarray(x)[:, 0, 0, 0]).all()


def test_augmented_images_are_new_in_each_epoch_and_keep_their_labels(digits: Arrays) -> None:
    labels = digits[1]
    values = 20 * labels.astype(np.float32)[:, None, None, None]
    images = np.broadcast_to(values, (64, 32, 32, 1)) + np.arange(32)[None, None, :, None]
    augmentation = AugmentationConfig(enabled=True, shift=0.1, rotation=0.03, zoom=0.1)
    epoch = tf.Variable(0, dtype=tf.int64)
    batches = training_batches(images, labels, 10, augmentation, 1, epoch)
    assert len(batches) == len(list(batches)) == 7
    epochs = []
    for number in (0, 1, 0):
        epoch.assign(number)
        x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        found = np.argmax(y, axis=1)
        assert (np.abs(x.mean(axis=(1, 2, 3)) - 15.5 - 20 * found) < 6).all()
        epochs.append(x[np.argsort(found, kind="stable")])
    assert np.array_equal(epochs[0], epochs[2])
    assert not np.array_equal(epochs[0], epochs[1])
