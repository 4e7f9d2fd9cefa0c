"""Inner loops and expert training, side by side in one run: time per step and peak memory.

python tools/bench_unroll.py             exact, full, tesla at 2 to 20 steps; experts against a bare loop
python tools/bench_unroll.py --size 112  at another clip size; --device cuda on a GPU

On a CPU times are of this process (one thread), so that other load does not count; memory is what the peak of
the resident set rises by.
"""

import argparse
import ctypes
import gc
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from synthetic import Clock, SyntheticClips
from torch import Tensor

from vdc.nets import build
from vdc.nets.experts import Recorder
from vdc.ops.losses import ce
from vdc.ops.unroll import Layout, Mode, step_loss, trajectory_loss, unroll
from vdc.spec import ClipSpec
from vdc.train.experts import Snapshots
from vdc.train.module import EvalModule, objective
from vdc.train.protocol import Protocol
from vdc.train.run import Running

K, EPOCHS = 10, 3
MODES: dict[str, tuple[Mode, float]] = {  # and the share of the steps whose graphs are kept
    "exact": ("exact", 0.0),
    "exact, half kept": ("exact", 0.5),
    "exact, all kept": ("exact", 1.0),
    "full": ("full", 0.0),
    "tesla": ("tesla", 0.0),
}


class Meter:
    """Time and peak memory of a piece of work on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        """Seconds."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def _resident(self, field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

    def __call__(self, work: Callable[[], object]) -> tuple[float, float]:
        """Seconds, and MB by which the peak rose."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        else:
            ctypes.CDLL("libc.so.6").malloc_trim(
                0
            )  # what earlier work freed does not hide what this one takes
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
            before = self._resident("VmRSS")
        start = self.now()
        work()
        seconds = self.now() - start
        cuda = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated() if cuda else self._resident("VmHWM")
        return seconds, (peak - before) / 1e6


def inner_loops(meter: Meter, spec: ClipSpec, clips: int, steps: list[int], repeats: int) -> None:
    """Outer loss and its gradient, by each mode."""
    device = meter.device
    net = build("minic3d", K, spec, norm="in").to(device)
    start = Layout.of(net).flatten({n: p.detach() for n, p in net.named_parameters()})
    target = start + 0.01 * torch.randn_like(start)
    loss, lr = step_loss(net, ce), torch.tensor(0.02, device=device, requires_grad=True)
    videos = torch.randn(clips, 3, spec.frames, spec.size, spec.size, device=device, requires_grad=True)
    labels = torch.arange(clips, device=device) % K

    def once(name: str, count: int) -> None:
        mode, share = MODES[name]
        outer: Callable[[Tensor], Tensor] = lambda theta: trajectory_loss(theta, start, target)  # noqa: E731
        value = unroll(
            loss, start, [(videos, labels)] * count, lr, outer, mode, keep=max(1, round(share * count))
        )
        torch.autograd.grad(value, (videos, lr))

    once("exact", 1)
    size = 4 * len(start) / 1e6
    print(f"minic3d (in), {spec.frames}x{spec.size}x{spec.size}, {clips} clips, theta {size:.1f} MB")
    print(f"{'steps':>5} {'mode':>16} {'s/step':>8} {'time/full':>9} {'MB':>7}")
    for count in steps:
        found = {mode: [meter(partial(once, mode, count)) for _ in range(repeats)] for mode in MODES}
        least = {mode: min(seconds for seconds, _ in runs) for mode, runs in found.items()}
        for mode in MODES:
            peak = max(memory for _, memory in found[mode])
            ratio = least[mode] / least["full"]
            print(f"{count:>5} {mode:>16} {least[mode] / count:>8.3f} {ratio:>9.2f} {peak:>7.0f}", flush=True)


def experts(meter: Meter, spec: ClipSpec, videos: int, batch: int) -> None:
    """An expert with snapshots, against the loop that one would write by hand."""
    protocol = Protocol(
        optimizer="sgd", lr=0.02, epochs=EPOCHS, schedule="constant", labels="hard", clip_grad=40.0
    )
    data, device = SyntheticClips(K, videos // K, spec=spec, batch_size=batch), meter.device
    data.setup("fit")

    def module() -> EvalModule:
        return EvalModule("minic3d", K, spec, protocol, 0, {"norm": "in"})

    def bare() -> None:
        own = module().to(device).train()
        optimizer = torch.optim.SGD(own.net.parameters(), protocol.rate, momentum=protocol.momentum)
        for _ in range(EPOCHS):
            for raw in data.shuffled():
                ready = data.to_batch(raw.to(device))
                optimizer.zero_grad()
                torch.autograd.backward(objective(own.protocol, own(ready.clips), ready))
                torch.nn.utils.clip_grad_norm_(own.net.parameters(), 40.0)
                optimizer.step()

    clock = Clock(meter.now)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            own = module()
            recorder = Recorder(Path(folder) / "snapshots.partial", own.net, EPOCHS, "fp32")

            def make(**options: object) -> Trainer:
                callbacks = [*options.pop("callbacks"), clock]  # type: ignore[misc]
                return Trainer(accelerator=device.type, devices=1, callbacks=callbacks, **options)  # type: ignore[arg-type]

            Running(make, progress=False).fit_and_test(own, data, Path(folder), "", extra=Snapshots(recorder))

    bare()
    plain, _ = meter(bare)
    ours()
    steps = EPOCHS * len(data.shuffled())
    print(
        f"expert training, {steps} steps of {batch} clips, {EPOCHS + 1} snapshots: "
        f"{clock.total / steps:.3f} s/step, bare {plain / steps:.3f}, ratio {clock.total / plain:.2f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--clips", type=int, default=10, help="per inner step")
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 5, 10, 20])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--videos", type=int, default=320, help="that an expert trains on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    meter, spec = Meter(torch.device(given.device)), ClipSpec(frames=given.frames, size=given.size)
    inner_loops(meter, spec, given.clips, given.steps, given.repeats)
    experts(meter, spec, given.videos, 16)


if __name__ == "__main__":
    main()
