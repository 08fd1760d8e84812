from svhn_sweep.training.progress import Progress


def test_the_bar_does_not_exceed_the_epoch_if_several_steps_are_one_call() -> None:
    progress = Progress(epochs=1, steps=20)
    progress.on_train_batch_end(31, {"loss": 1.0})
    assert progress.bars.tasks[1].completed == 20
