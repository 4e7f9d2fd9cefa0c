"""Trainers that die as a kill would let them: nothing is saved on the way out."""

from functools import partial

from lightning.pytorch import Callback, Trainer

CPU = partial(Trainer, accelerator="cpu")


class Killed(BaseException):
    """Nothing that is caught on the way."""


class KillAt(Callback):
    """Die in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, *_):
        if trainer.current_epoch == self.epoch:
            raise Killed


def killing(epoch):
    """Makes a trainer that dies in `epoch`."""

    def make(**options):
        return CPU(**options | {"callbacks": [*options.get("callbacks", []), KillAt(epoch)]})

    return make
