"""MTT: training on the synthetic clips must end where training on the real videos does."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from vdc.condensed.memory import Memory
from vdc.methods.base.learner import Learner, Terms
from vdc.methods.base.networks import chunked_features, load_flat_parameters
from vdc.methods.base.options import Augmentation, at_least_one
from vdc.methods.expert_choice import CHUNK, correct_clips
from vdc.nets import VideoNet
from vdc.nets.experts import Experts, load_experts
from vdc.ops.losses import ce, soft_ce
from vdc.ops.rng import derive, generator
from vdc.ops.unroll import Mode, StepLoss, step_loss, trajectory_loss, unroll
from vdc.ops.windows import draw_starts
from vdc.spec import Batch, ClipSpec

LEAST_STEP = 1e-3  # of the learnt step size
HOPELESS = 50  # poor steps in a row


class TrajectorySegment(NamedTuple):
    """A piece of an expert's trajectory, and what else is random about a step."""

    start: Tensor  # theta (D,)
    target: Tensor  # theta (D,), `expert_epochs` later
    expert: int
    epoch: int
    seed: int  # of inner batches, windows and augmentation


class MTT(Learner):
    """Matching training trajectories (Cazenavette 2022, arXiv 2203.11932; for videos Wang 2024).

    From a random snapshot of an expert, `syn_steps` gradient steps on the synthetic clips must end near the
    snapshot `expert_epochs` later. The step size is learnt too, as it is and never below 1e-3 (as in
    yuz1wan/video_distillation@5871dc5b): rates published for it keep their meaning. Processes take different
    experts.

    Args:
        experts: their folder, from `vdc pretrain --experts`.
        net: name of the network that they must be; `None` takes any.
        syn_steps: inner steps.
        expert_epochs: epochs of an expert that they are to match.
        min_start_epoch: first epoch to start from.
        max_start_epoch: epoch that starts stay below.
        batch_syn: clips per inner step; `None` takes all.
        mode: how the gradient goes through the inner steps, see `vdc.ops.unroll`.
        offload: keep the inner parameters in host memory.
        keep: last inner steps whose graphs are kept, which saves a quarter of the time of each: see the same.
        augment: of every clip of an inner step in its own way.
        step_size: of inner steps, at the start.
        lr_step: learning rate of the step size; 0 keeps it.
        momentum_step: of SGD on it.
        optimizer: of the memory's pixels.
        options: see `Learner`.
    """

    batches: ClassVar = "none"
    experts: Experts
    threshold: float = 1.0  # a mean of terms above it is poor: 1 is that of students that do not learn at all

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        experts: str,
        *,
        net: str | None = None,
        syn_steps: int = 10,
        expert_epochs: int = 1,
        min_start_epoch: int = 0,
        max_start_epoch: int = 10,
        batch_syn: int | None = None,
        mode: Mode = "exact",
        offload: bool = False,
        keep: int = 1,
        augment: Augmentation = Augmentation(),
        step_size: float = 0.01,
        lr_step: float = 1e-5,
        momentum_step: float = 0.5,
        optimizer: OptimizerCallable = torch.optim.SGD,
        init: str = "real",
        **options: Any,
    ) -> None:
        super().__init__(num_classes, spec, optimizer=optimizer, init=init, **options)
        batch = 1 if batch_syn is None else batch_syn
        at_least_one(syn_steps=syn_steps, expert_epochs=expert_epochs, keep=keep, batch_syn=batch)
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
        self.experts_path = experts
        self.net_name = net
        self.syn_steps = syn_steps
        self.expert_epochs = expert_epochs
        self.min_start_epoch = min_start_epoch
        self.max_start_epoch = max_start_epoch
        self.batch_syn = batch_syn
        self.mode = mode
        self.offload = offload
        self.keep = keep
        self.augment = augment
        self.lr_step = lr_step
        self.momentum_step = momentum_step
        self.step_size = nn.Parameter(torch.tensor(float(step_size)), requires_grad=lr_step > 0)
        self._inner: StepLoss
        self._current: TrajectorySegment | None = None
        self._poor = False  # the current step
        self._poor_steps = 0  # in a row, up to it

    def prepare(self) -> None:
        """Open the experts, whose snapshots stay on disk."""
        if str(self.trainer.precision) == "16-mixed":
            raise ValueError("--trainer.precision 16-mixed scales no inner gradient: use bf16-mixed")
        needed = self.max_start_epoch - 1 + self.expert_epochs
        self.experts = load_experts(self.experts_path, self.data.classes, self.spec, self.net_name, needed)
        student = self.experts.build().to(self.device).requires_grad_(False).train()
        self._inner = step_loss(
            student, lambda logits, y: ce(logits, y) if y.ndim == 1 else soft_ce(logits, y)
        )

    def initial_clips(self) -> Tensor:
        """Clips that the memory starts from, per `init`."""
        if self.init != "correct":
            return super().initial_clips()
        count = self.memory.init_clips_per_class
        return correct_clips(self.data, self.experts, count, self.seed, self.device).to(self.device)

    def window(self) -> tuple[int, int]:
        """First epoch to start from, and the one that starts stay below, at this step."""
        return self.min_start_epoch, self.max_start_epoch

    def turn(self) -> int:
        """The expert of this step and process: in random order, each once before any comes again."""
        position = self.global_step * self.trainer.world_size + self.global_rank
        turn, place = divmod(position, len(self.experts))
        return int(torch.randperm(len(self.experts), generator=generator(self.seed, "experts", turn))[place])

    def context(self, batch: Batch | None) -> TrajectorySegment:
        """An expert, and the epoch to start from."""
        expert = self.turn()
        epoch = int(torch.randint(*self.window(), (), generator=self.rng("start", per_rank=True)))
        start, target = (
            self.experts.snapshot(expert, e).to(self.device) for e in (epoch, epoch + self.expert_epochs)
        )
        seed = derive(self.seed, "stretch", self.global_step, self.global_rank)
        self._current = TrajectorySegment(start, target, expert, epoch, seed)
        self.log_dict({"expert": float(expert), "start_epoch": float(epoch)})
        return self._current

    def render(self, memory: Memory, context: TrajectorySegment) -> tuple[Tensor, Tensor]:
        """Clips (N, V, C, T_c, H, W) of a memory whose rows have variants: inner steps draw among V of them.

        There V is all of them, or the number of inner steps if that is less.
        """
        seen = min(memory.variants, self.syn_steps)
        if seen == 1:
            return super().render(memory, context)
        clips, labels = memory.render(torch.arange(len(memory), device=self.device).repeat_interleave(seen))
        return clips.view(-1, seen, *clips.shape[1:]), labels[::seen]

    def loss(self, clips: Tensor, labels: Tensor, context: TrajectorySegment) -> Terms:
        """Distance to the target over that of the start (MTT, eq. 2).

        Args:
            clips: stored (N, C, T_c, H, W), or (N, V, C, T_c, H, W); of all items, or of some.
            labels: (N,) int64, or (N, K) logits.
            context: from `context`.
        """
        whole = self.batch_syn or len(self.memory)
        batch = -(-whole * len(clips) // len(self.memory))  # of some items as much smaller
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

    @cached_property
    def net(self) -> VideoNet:
        """A network of the experts' kind, to look at clips with; no part of this module's state."""
        return self.experts.build().to(self.device).eval()

    def embed(self, clips: Tensor, classes: Tensor, context: TrajectorySegment) -> Tensor:
        """Last maps (N, D) of middle windows in the network that the step starts from."""
        load_flat_parameters(self.net, context.start)
        clips = clips[:, 0] if clips.ndim == 6 else clips
        return chunked_features(self.net, self.view(clips, None), CHUNK)

    def _seen(self, theta: Tensor, clips: Tensor, labels: Tensor, *drawn: Tensor) -> Tensor:
        """Inner loss on some clips; windows and augmentation happen here, so that no step keeps them."""
        rows, starts, seed = drawn
        if clips.ndim == 6:
            drawn_of = torch.randint(clips.shape[1], rows.shape, generator=generator(int(seed), "variants"))
            clips = clips[rows.to(clips.device), drawn_of.to(clips.device)]
        else:
            clips = clips[rows.to(clips.device)]
        clips = self.augment(self.view(clips, starts), generator(int(seed), "augment"), shared=False)
        return self._inner(theta, clips, labels[rows.to(labels.device)])

    def training_step(self, batch: Batch | None, batch_idx: int) -> Tensor:
        """One step, with a curve of the step size; poor where its terms, averaged over processes, are too large."""
        self.log("step_size", self.step_size.detach())
        total = super().training_step(batch, batch_idx)
        mean = self.trainer.strategy.reduce(total.detach().clone(), reduce_op="mean")
        terms = len(self.step_terms)
        self._poor = bool(mean > terms * self.threshold)
        self._poor_steps = self._poor_steps + 1 if self._poor else 0
        if self._poor_steps == HOPELESS:
            self.hopeless(float(mean / terms))
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
