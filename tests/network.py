"""The one network of the tests, of some 800 weights; child processes import it too."""

from functools import partial

import torch
from torch import nn

from vdc.nets import VideoNet, zoo


class Tiny(VideoNet):
    """Two convolutions and two norms."""

    def __init__(self, num_classes, spec, norm="bn", dropout=0.0):
        super().__init__("tiny", num_classes, spec, norm=norm, dropout=dropout)
        make = nn.BatchNorm3d if norm == "bn" else lambda c: nn.GroupNorm(c, c)
        self.conv1, self.norm1 = nn.Conv3d(3, 4, 3, (1, 2, 2), 1), make(4)
        self.conv2, self.norm2 = nn.Conv3d(4, 6, 3, (1, 2, 2), 1), make(6)
        self.dropout, self.fc = nn.Dropout(dropout), nn.Linear(6, num_classes)

    def maps(self, x):
        return self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(self.entry(x)))))).relu()

    def pool(self, maps):
        return maps.mean((2, 3, 4))

    def forward(self, x):
        return self.fc(self.dropout(self.features(x)))


class Dropping(Tiny):
    """The same with dropout, for whatever trains on a seed."""

    def __init__(self, num_classes, spec, norm="bn", dropout=0.3):
        super().__init__(num_classes, spec, norm, dropout)


def register(net=Tiny):
    """Make `build` know it, in a child process."""
    zoo.OWN["tiny"] = partial(net)
