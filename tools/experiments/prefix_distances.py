"""How far the first n items of every class are from real clips of it, in the networks of experts.

    python tools/experiments/prefix_distances.py EXPERTS ROOT SET [SET ...]

For every set and n: the squared distance of the mean last map of the first n items to that of 64 training clips,
over the squared norm of the latter, averaged over classes and over all snapshots from epoch 3 on. It is what
multi-size of DM minimises and chooses prefixes by.
"""

import sys

import torch

from vdc.condensed.format import load
from vdc.data import RealData
from vdc.methods.base.networks import chunked_features, load_flat_parameters
from vdc.methods.base.prefixes import prefix_distances
from vdc.nets.experts import load_experts

EPOCHS, CLIPS, CHUNK = 3, 64, 100


@torch.no_grad()
def main() -> None:
    """Print a line per set."""
    folder, root, *paths = sys.argv[1:]
    sets = {path: load(path) for path in paths}
    spec = next(iter(sets.values())).spec
    data = RealData(root, train="train.txt", test="test.txt", spec=spec)
    data.setup("fit")
    experts = load_experts(folder, data.classes, spec)
    net = experts.build().eval()
    real = data.sample(CLIPS, seed=7).flatten(0, 1)
    clips = {}
    for path, held in sets.items():
        memory = held.memory()
        clips[path] = memory.render(torch.arange(len(memory)))[0], memory.ipc
    totals: dict[str, torch.Tensor] = {}
    snapshots = [(i, epoch) for i in range(len(experts)) for epoch in range(EPOCHS, experts.epochs + 1)]
    for i, epoch in snapshots:
        load_flat_parameters(net, experts.snapshot(i, epoch))
        means = chunked_features(net, real, CHUNK).view(data.num_classes, CLIPS, -1).mean(1)
        norm = means.square().sum(1).mean()
        for path, (items, ipc) in clips.items():
            maps = chunked_features(net, items, CHUNK)
            zeros = torch.zeros(data.num_classes, len(maps) // data.num_classes // ipc, maps.shape[1])
            padded = torch.cat([maps.view(data.num_classes, -1, maps.shape[1]), zeros], 1).flatten(0, 1)
            found = prefix_distances(padded, means, ipc + 1).mean(0) / norm
            totals[path] = totals.get(path, torch.zeros(ipc)) + found / len(snapshots)
    for path, found in totals.items():
        print(path, " ".join(f"{d:.3f}" for d in found.tolist()), flush=True)


if __name__ == "__main__":
    main()
