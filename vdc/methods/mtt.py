"""MTT: training on the synthetic clips must end where training on the real videos does."""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from vdc.condensed.memory import Memory, Pixels
from vdc.methods.base.condenser import Condenser, MemoryCallable
from vdc.methods.base.multisize import MultiSize, Seen, real_clips
from vdc.methods.base.networks import embed, put
from vdc.methods.expert_choice import CHUNK, correct_clips
from vdc.nets.experts import Experts, load_experts
from vdc.ops.augment import diff_augment
from vdc.ops.losses import ce, soft_ce
from vdc.ops.rng import derive, generator
from vdc.ops.unroll import Mode, StepLoss, step_loss, trajectory_loss, unroll
from vdc.ops.windows import draw_starts
from vdc.spec import Batch, ClipSpec

LEAST_STEP = 1e-3  # of the learnt step size
HOPELESS = 50  # poor steps in a row


class Stretch(NamedTuple):
    """A piece of an expert's trajectory, and what else is random about a step."""

    start: Tensor  # theta (D,)
    target: Tensor  # theta (D,), `expert_epochs` later
    expert: int
    epoch: int
    seed: int  # of inner batches, windows and augmentation


class MTT(Condenser):
    """Matching training trajectories (Cazenavette 2022, arXiv 2203.11932; for videos Wang 2024).

    From a random snapshot of an expert, `syn_steps` gradient steps on the synthetic clips must end near the
    snapshot `expert_epochs` later. The step size is learnt too, as it is and never below 1e-3 (as in
    yuz1wan/video_distillation@5871dc5b): rates published for it keep their meaning. Processes take different
    experts.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        experts: their folder, from `vdc pretrain --experts`.
        net: name of the network that they must be; `None` takes any.
        ipc: items per class.
        syn_steps: inner steps.
        expert_epochs: epochs of an expert that they are to match.
        min_start_epoch: first epoch to start from.
        max_start_epoch: epoch that starts stay below.
        batch_syn: clips per inner step; `None` takes all.
        mode: how the gradient goes through the inner steps, see `vdc.ops.unroll`.
        offload: keep the inner parameters in host memory.
        keep: last inner steps whose graphs are kept, which saves a quarter of the time of each: see the same.
        augment: families of differentiable augmentation, one drawn per inner step; `None` for none.
        step_size: of inner steps, at the start.
        lr_step: learning rate of the step size; 0 keeps it.
        momentum_step: of SGD on it.
        memory: what is stored and learnt.
        optimizer: of the memory's pixels.
        init: `real`, `noise`, the folder of a condensed set, or `correct`: clips that experts get right.
        seed: of everything random; linked from `seed_everything`.
        out: folder the condensed set is written to; `None` writes none.
        multisize: match prefixes of the items too, so that they can be used alone; `None` does not.
    """

    batches: ClassVar = "none"
    experts: Experts
    threshold: float = 1.0  # a loss above it is poor: 1 is that of students that do not learn at all

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        experts: str,
        net: str | None = None,
        ipc: int = 1,
        syn_steps: int = 10,
        expert_epochs: int = 1,
        min_start_epoch: int = 0,
        max_start_epoch: int = 10,
        batch_syn: int | None = None,
        mode: Mode = "exact",
        offload: bool = False,
        keep: int = 1,
        augment: str | None = None,
        step_size: float = 0.01,
        lr_step: float = 1e-5,
        momentum_step: float = 0.5,
        memory: MemoryCallable = Pixels,
        optimizer: OptimizerCallable = torch.optim.SGD,
        init: str = "real",
        seed: int = 0,
        out: str | None = None,
        multisize: MultiSize | None = None,
    ) -> None:
        super().__init__(num_classes, spec, ipc, memory, optimizer, init, seed, out, multisize)
        counts = {"syn_steps": syn_steps, "expert_epochs": expert_epochs, "keep": keep}
        counts |= {"batch_syn": batch_syn or 1}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"--model.init_args.{name} must be at least 1, got {count}")
        if batch_syn is not None and batch_syn > len(self.memory):
            raise ValueError(
                f"--model.init_args.batch_syn {batch_syn} is larger than the set of {len(self.memory)} clips"
            )
        if not 0 <= min_start_epoch < max_start_epoch:
            raise ValueError(
                f"--model.init_args.min_start_epoch {min_start_epoch} must be in 0..max_start_epoch - 1 "
                f"({max_start_epoch - 1})"
            )
        if step_size < LEAST_STEP:
            raise ValueError(f"--model.init_args.step_size {step_size} must be at least {LEAST_STEP}")
        self.experts_path, self.net, self.syn_steps, self.expert_epochs = (
            experts,
            net,
            syn_steps,
            expert_epochs,
        )
        self.min_start_epoch, self.max_start_epoch, self.batch_syn = (
            min_start_epoch,
            max_start_epoch,
            batch_syn,
        )
        self.mode, self.offload, self.keep, self.augment = mode, offload, keep, augment
        self.lr_step, self.momentum_step = lr_step, momentum_step
        self.step_size = nn.Parameter(torch.tensor(float(step_size)), requires_grad=lr_step > 0)
        self._inner: StepLoss
        self._current: Stretch | None = None
        self._poor = False  # the current step
        self._poor_steps = 0  # in a row, up to it

    # -- experts -----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Open the experts, whose snapshots stay on disk."""
        if str(self.trainer.precision) == "16-mixed":
            raise ValueError("--trainer.precision 16-mixed scales no inner gradient: use bf16-mixed")
        needed = self.max_start_epoch - 1 + self.expert_epochs
        self.experts = load_experts(self.experts_path, self.data.classes, self.spec, self.net, needed)
        student = self.experts.build().to(self.device).requires_grad_(False).train()
        self._inner = step_loss(
            student, lambda logits, y: ce(logits, y) if y.ndim == 1 else soft_ce(logits, y)
        )

    def initial_clips(self) -> Tensor:
        """Clips that the memory starts from, per `init`."""
        if self.init != "correct":
            return super().initial_clips()
        found = correct_clips(self.data, self.experts, self.memory.wants, self.seed, self.device)
        return found.to(self.device)

    def window(self) -> tuple[int, int]:
        """First epoch to start from, and the one that starts stay below, at this step."""
        return self.min_start_epoch, self.max_start_epoch

    def turn(self) -> int:
        """The expert of this step and process: in random order, each once before any comes again."""
        position = self.global_step * self.trainer.world_size + self.global_rank
        turn, place = divmod(position, len(self.experts))
        return int(torch.randperm(len(self.experts), generator=generator(self.seed, "experts", turn))[place])

    # -- a step ------------------------------------------------------------------------------------------

    def context(self, batch: Batch | None) -> Stretch:
        """An expert, and the epoch to start from."""
        expert = self.turn()
        epoch = int(torch.randint(*self.window(), (), generator=self.rng("start", per_rank=True)))
        start, target = (
            self.experts.snapshot(expert, e).to(self.device) for e in (epoch, epoch + self.expert_epochs)
        )
        seed = derive(self.seed, "stretch", self.global_step, self.global_rank)
        self._current = Stretch(start, target, expert, epoch, seed)
        self.log_dict({"expert": float(expert), "start_epoch": float(epoch)})
        return self._current

    def rendered(self, context: Stretch, memory: Memory) -> tuple[Tensor, Tensor]:
        """Clips (N, V, C, T_c, H, W) of a memory whose rows have variants: inner steps draw among V of them.

        There V is all of them, or the number of inner steps if that is less.
        """
        seen = min(memory.variants, self.syn_steps)
        if seen == 1:
            return super().rendered(context, memory)
        clips, labels = memory.render(self.rows(context).repeat_interleave(seen), self.frozen)
        return clips.view(-1, seen, *clips.shape[1:]), labels[::seen]

    def loss(self, clips: Tensor, labels: Tensor, context: Stretch) -> dict[str, Tensor]:
        """Distance to the target over that of the start (MTT, eq. 2).

        Args:
            clips: stored (N, C, T_c, H, W), or (N, V, C, T_c, H, W); any prefix of the set.
            labels: (N,) int64, or (N, K) logits.
            context: from `context`.
        """
        whole = self.batch_syn or len(self.memory)
        batch = -(-whole * len(clips) // len(self.memory))  # of a prefix as much smaller
        drawn = inner_batches(len(clips), batch, self.syn_steps, self.spec, context.seed)
        value = unroll(
            self._seen,
            context.start,
            [(clips, labels, *inner) for inner in drawn],
            self.step_size,
            lambda theta: trajectory_loss(theta, context.start, context.target),
            self.mode,
            context.seed,
            self.offload,
            self.keep,
        )
        return {"trajectory": value}

    def embedded(self, clips: Tensor, earlier: Tensor, context: Stretch) -> Seen:
        """Last maps of middle windows in the network that the stretch starts from; real clips of their own."""
        net = self.experts.build().to(self.device).eval()
        put(net, context.start)
        items = (some[:, 0] if some.ndim == 6 else some for some in (clips, earlier))
        now, then, *real = (
            embed(net, self.view(part, None), CHUNK).float() for part in (*items, *real_clips(self))
        )
        return Seen(now, then, torch.stack([part.mean(0) for part in real]), torch.ones(len(real)))

    def _seen(self, theta: Tensor, clips: Tensor, labels: Tensor, *drawn: Tensor) -> Tensor:
        """Inner loss on some clips; windows and augmentation happen here, so that no step keeps them."""
        rows, starts, seed = drawn
        if clips.ndim == 6:
            drawn_of = torch.randint(clips.shape[1], rows.shape, generator=generator(int(seed), "variants"))
            clips = clips[rows.to(clips.device), drawn_of.to(clips.device)]
        else:
            clips = clips[rows.to(clips.device)]
        clips = self.view(clips, starts)
        if self.augment is not None:
            clips = diff_augment(clips, generator(int(seed), "augment"), self.augment, shared=False)
        return self._inner(theta, clips, labels[rows.to(labels.device)])

    def training_step(self, batch: Batch | None, batch_idx: int) -> Tensor:
        """One step, with a curve of the step size; poor where its loss, averaged over processes, is too large."""
        self.log("step_size", self.step_size.detach())
        total = super().training_step(batch, batch_idx)
        mean = self.trainer.strategy.reduce(total.detach().clone(), reduce_op="mean")
        losses = 2 if self.prefixes is not None and self.prefixes.made else 1
        self._poor = bool(mean > losses * self.threshold)
        self._poor_steps = self._poor_steps + 1 if self._poor else 0
        if self._poor_steps == HOPELESS:
            self.hopeless(float(mean / losses))
        return total

    def hopeless(self, loss: float) -> None:
        """Say that the last steps were all poor, the last one by `loss`."""
        rank_zero_warn(
            f"the losses of the last {self._poor_steps} steps, up to {self.global_step}, were above "
            f"{self.threshold:g} (the last {loss:.3f}): {self.remedy}"
        )

    @property
    def remedy(self) -> str:
        """What to do about poor steps."""
        return (
            "students move away from the experts: lower model.init_args.step_size "
            f"({float(self.step_size.detach()):.3g}) or raise model.init_args.batch_syn"
        )

    # -- Lightning ---------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Pixels as configured; step size, and labels where they are learnt, at their own rates."""
        return self.optimizer(list(self.groups()))

    def groups(self) -> Iterator[dict[str, Any]]:
        """Parameter groups of the one optimiser."""
        yield from self.memory.groups()
        if self.lr_step > 0:
            yield {"params": [self.step_size], "lr": self.lr_step, "momentum": self.momentum_step}

    def about_step(self) -> str:
        """The expert and its epoch."""
        now = self._current
        assert now is not None
        return f"expert {self.experts.numbers[now.expert]} from epoch {now.epoch}"

    @torch.no_grad()
    def _clamp_step(self) -> None:
        """Keep the step size positive."""
        self.step_size.clamp_(min=LEAST_STEP)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Keep what is learnt in its range."""
        super().on_train_batch_start(batch, batch_idx)
        self._clamp_step()

    def on_train_end(self) -> None:
        """After the last step too."""
        super().on_train_end()
        self._clamp_step()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The memory, and the step size."""
        return super().state_dict(*args, **kwargs) | {"step_size": self.step_size.detach()}

    def learnt(self) -> dict[str, Any]:
        """The step size, at which SGD should train on the set."""
        return {"step_size": round(self.step_size.item(), 8)}


def inner_batches(
    n: int, batch: int, steps: int, spec: ClipSpec, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Clip rows, window starts and a seed of every inner step.

    Rows are a random permutation cut into batches, the last of which may be smaller, then another one.

    Args:
        n: clips of the set.
        batch: rows per step.
        steps: inner steps.
        spec: the window.
        seed: of everything drawn.
    """
    parts: list[Tensor] = []
    for step in range(steps):
        if not parts:
            order = torch.randperm(n, generator=generator(seed, "rows", step))
            parts = list(torch.split(order, batch))
        rows = parts.pop(0)
        starts = draw_starts(len(rows), spec, generator(seed, "view", step))
        yield rows, starts, torch.tensor(derive(seed, "inner", step))
