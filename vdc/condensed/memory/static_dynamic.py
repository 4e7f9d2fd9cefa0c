"""StaticDynamic: a few stills and one-channel motion clips per item, made into clips by a shared integrator."""

import math
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from vdc.condensed.memory.base import SHARED, Memory
from vdc.condensed.memory.integrator import Kind, build, pass_through, reset
from vdc.ops.pixels import to_clips, to_frames, valid_range
from vdc.ops.rng import generator
from vdc.spec import ClipSpec

Precision = Literal["float32", "float16", "uint8"]
Motion = Literal["noise", "clips"]
INTEGRATOR = f"{SHARED}integrator."
SAMPLE = 65536  # values of motion clips whose drift is followed, at most


class StaticDynamic(Memory):
    """Items of S stills and D motion clips, which render as clips of one still and one motion clip.

    Wang 2024 (S2D, arXiv 2312.00362), yuz1wan/video_distillation@5871dc5b:distill_s2d_ms.py, where S and D
    are 2. Which two make the clip is drawn anew at every step and epoch (`redraw`), from the seed and the
    item alone; a row asked for several times at once takes its S * D pairs in turn. Stills start as the middle
    frames of the clips given, or as the stills of a condensed set (`StaticDC`); for the rest see `motion`.
    All items change with the integrator: where some are frozen, it is frozen too.

    Args:
        num_classes: K.
        ipc: items per class.
        spec: shapes of the stored and seen clips.
        statics: stills S per item.
        dynamics: motion clips D per item.
        integrator: the released single convolution (327 weights), or an encoder and decoder.
        width: of the latter.
        lr_static: learning rate of stills; 0 keeps them, as published.
        lr_dynamic: of motion clips; `None` takes the optimiser's, 0 leaves them as they start.
        lr_integrator: of the integrator; `None` takes the optimiser's, 0 keeps it.
        precision: that everything is stored in. With uint8 stills are ordinary frames, a motion clip has 256
            levels between its extremes, and the integrator stays float32.
        motion: what motion clips start as. `noise`, as published: of deviation 1, the integrator as convolutions
            do. `clips`: how much brighter or darker a clip is than its still, the integrator adding the two, so
            that a pair of one clip renders as that clip in the colours of its middle frame.
        budget: plain clips per class, at the same precision, whose bytes the set may take; `None` is `ipc`,
            0 allows any.
    """

    any_length, shared = True, True
    stills: nn.Parameter  # (K * ipc, S, C, H, W) normalised; absent from a restored memory, like `motions`
    motions: nn.Parameter  # (K * ipc, D, T_c, H, W)
    kept: dict[str, str]  # of a restored memory: stored tensor -> buffer that holds it
    pairs: Tensor  # (rows, S * D): the pairs s * D + d of every row, in the order they are taken
    low: Tensor  # (C, 1, 1), normalised black
    high: Tensor  # (C, 1, 1), normalised white
    start: Tensor | None  # some values of motion clips, before anything is learnt

    def __init__(
        self,
        num_classes: int,
        ipc: int,
        spec: ClipSpec,
        statics: int = 2,
        dynamics: int = 2,
        integrator: Kind = "conv",
        width: int = 4,
        lr_static: float = 0.0,
        lr_dynamic: float | None = None,
        lr_integrator: float | None = None,
        precision: Precision = "uint8",
        motion: Motion = "noise",
        budget: int | None = None,
    ) -> None:
        super().__init__(num_classes, ipc, spec)
        for name, count in (("statics", statics), ("dynamics", dynamics)):
            if count < 1:
                raise ValueError(f"memory.{name} must be at least 1, got {count}")
        if precision not in get_args(Precision):
            raise ValueError(f"memory.precision must be float32, float16 or uint8, got {precision!r}")
        if motion not in get_args(Motion):
            raise ValueError(f"memory.motion must be noise or clips, got {motion!r}")
        self.motion = motion
        self.statics = statics
        self.dynamics = dynamics
        self.kind = integrator
        self.width = width
        self.rates = {"static": lr_static, "dynamic": lr_dynamic, "integrator": lr_integrator}
        if all(rate == 0 for rate in self.rates.values()) or any(r and r < 0 for r in self.rates.values()):
            raise ValueError(f"memory.lr_*: none may be negative, and not all of them 0; got {self.rates}")
        self.precision, self.kept = precision, {}
        side, items = spec.size, num_classes * ipc
        self.integrator = build(integrator, width).requires_grad_(lr_integrator != 0)
        self.stills = nn.Parameter(torch.zeros(items, statics, 3, side, side), lr_static > 0)
        self.motions = nn.Parameter(torch.zeros(items, dynamics, spec.stored, side, side), lr_dynamic != 0)
        self.every = max(1, self.motions.numel() // SAMPLE)
        self.register_buffer("start", torch.zeros_like(self._sample(self.motions.detach())))
        with torch.device("cpu"):  # also where the rest is built on the meta device
            self.register_buffer("pairs", torch.empty(len(self), self.variants).long(), persistent=False)
            for name, bound in zip(("low", "high"), valid_range(torch.device("cpu")), strict=True):
                self.register_buffer(name, bound[..., 0], persistent=False)
        self.redraw(0)
        self._check_budget(ipc if budget is None else budget)

    # -- bytes -------------------------------------------------------------------------------------------

    def layout(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shape and type of every stored tensor."""
        items, (s, d), side = self.num_classes * self.ipc, (self.statics, self.dynamics), self.spec.size
        dtype: torch.dtype = getattr(torch, self.precision)
        motions = (items, d, self.spec.stored, side, side)
        found: dict[str, tuple[tuple[int, ...], torch.dtype]]
        if self.precision == "uint8":
            found = {"stills": ((items, s, side, side, 3), dtype), "motions": (motions, dtype)}
            found |= {name: ((items, d), torch.float32) for name in ("motion_low", "motion_step")}
        else:
            found = {"stills": ((items, s, 3, side, side), dtype), "motions": (motions, dtype)}
        weights = torch.float32 if self.precision == "uint8" else dtype
        shared = {
            INTEGRATOR + name: (tuple(p.shape), weights) for name, p in self.integrator.named_parameters()
        }
        return found | shared

    @property
    def nbytes(self) -> int:
        """Exact bytes of `state()`."""
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.layout().values())

    def _check_budget(self, plain: int) -> None:
        """Refuse a set larger than `plain` plain clips per class, at the same precision."""
        dtype: torch.dtype = getattr(torch, self.precision)
        allowed = self.num_classes * plain * self.spec.nbytes * dtype.itemsize
        if plain and self.nbytes > allowed:
            raise ValueError(
                f"{self.ipc} item(s) per class of {self.statics} stills and {self.dynamics} motion clips of "
                f"{self.spec.stored} frames, with the integrator, take {self.nbytes:,} bytes, {plain} plain "
                f"clip(s) per class {allowed:,}: lower memory.statics, memory.dynamics or memory.width, or "
                "raise memory.budget"
            )

    # -- rendering ---------------------------------------------------------------------------------------

    @property
    def init_clips_per_class(self) -> int:
        """Clips per class that `initialise` takes: one per still, and per motion clip where it is of a clip."""
        return self.ipc * (max(self.statics, self.dynamics) if self.motion == "clips" else self.statics)

    @property
    def variants(self) -> int:
        """Pairs of a still and a motion clip."""
        return self.statics * self.dynamics

    def redraw(self, seed: int) -> None:
        """Draw the pairs of every row afresh; `initialise` draws its noise from `seed` too."""
        self.seed = seed
        drawn = torch.rand(self.pairs.shape, generator=generator(seed, "pairs"), device="cpu")
        self.pairs.copy_(drawn.argsort(1))

    def clips(self, rows: Tensor) -> Tensor:
        """Clips of `rows`, (N, C, T_c, H, W), all in one batch; see the class for repeated rows."""
        pairs = self.pairs[rows, occurrences(rows) % self.variants]
        still, motion = self._stills(rows, pairs // self.dynamics), self._motions(rows, pairs % self.dynamics)
        clips: Tensor = self.integrator(still, motion)
        return clips

    def _stills(self, items: Tensor, which: Tensor) -> Tensor:
        """Stills (N, C, H, W) number `which` (N,) of items (N,)."""
        if not self.kept:
            return self.stills[items, which]
        found = getattr(self, self.kept["stills"])[items, which]
        return to_clips(found[:, None])[:, :, 0] if self.precision == "uint8" else found.float()

    def _motions(self, items: Tensor, which: Tensor) -> Tensor:
        """Motion clips (N, T_c, H, W) number `which` (N,) of items (N,)."""
        if not self.kept:
            return self.motions[items, which]
        parts = {
            name: getattr(self, buffer)[items, which]
            for name, buffer in self.kept.items()
            if name != "stills"
        }
        return dequantised(*parts.values()) if self.precision == "uint8" else parts["motions"].float()

    # -- learning ----------------------------------------------------------------------------------------

    def groups(self) -> list[dict[str, Any]]:
        """Stills, motion clips and integrator, where they are learnt, at their rates."""
        parts = {
            "static": [self.stills],
            "dynamic": [self.motions],
            "integrator": [*self.integrator.parameters()],
        }
        rates = {name: {} if rate is None else {"lr": rate} for name, rate in self.rates.items() if rate != 0}
        return [{"params": parts[name], **rate} for name, rate in rates.items()]

    @torch.no_grad()
    def initialise(self, clips: Tensor) -> None:
        """Start from clips (K, init_clips_per_class, C, t, H, W) of any length, normalised: see the class.

        Raises:
            ValueError: the clips have another shape; or motion is to be of clips, and they have neither one
                frame, which does not move, nor as many as are stored.
        """
        wanted = (self.num_classes, self.init_clips_per_class, 3, self.spec.size, self.spec.size)
        frames, length = clips[:, :, :, clips.shape[3] // 2], clips.shape[3]
        if frames.shape != wanted:
            raise ValueError(
                f"memory with stills of (K, init_clips_per_class, C, H, W) {wanted} cannot start from clips of "
                f"{tuple(clips.shape)}"
            )
        self.stills.copy_(self._of_items(frames)[:, : self.statics])
        reset(self.integrator, generator(self.seed, "integrator"))
        if self.motion == "noise":
            self.motions.copy_(torch.randn(self.motions.shape, generator=generator(self.seed, "motions")))
        elif length not in (1, self.spec.stored):
            raise ValueError(
                f"memory.motion clips needs clips of 1 or {self.spec.stored} frames to start from, not {length}"
            )
        else:
            brighter = (clips - frames[:, :, :, None]).mean(2)  # (K, init_clips_per_class, t, H, W)
            self.motions.copy_(self._of_items(brighter)[:, : self.dynamics])
            pass_through(self.integrator)
        self.start = self._sample(self.motions).clone()

    def _of_items(self, parts: Tensor) -> Tensor:
        """(K, init_clips_per_class, ...) as (K * ipc, init_clips_per_class / ipc, ...)."""
        return parts.reshape(len(self.stills), -1, *parts.shape[2:])

    def _sample(self, motions: Tensor) -> Tensor:
        """Every `every`-th value, to track drift."""
        return motions.flatten()[:: self.every]

    def curves(self) -> dict[str, Tensor]:
        """`motion_drift`: root mean square of how far motion clips are from their start."""
        assert self.start is not None
        return {"motion_drift": (self._sample(self.motions.detach()) - self.start).square().mean().sqrt()}

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring stills back between black and white, in place."""
        self.stills.clamp_(self.low, self.high)

    # -- storing -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """What `layout` tells, on the host."""
        layout, weights = self.layout(), dict(self.integrator.named_parameters())
        if self.kept:
            held = {name: getattr(self, buffer) for name, buffer in self.kept.items()}
        elif self.precision == "uint8":
            held = {"stills": to_frames(self.stills.transpose(1, 2)), **quantised(self.motions)}
        else:
            held = {"stills": self.stills, "motions": self.motions}
        held |= {INTEGRATOR + name: weight for name, weight in weights.items()}
        return {name: held[name].detach().to("cpu", dtype) for name, (_, dtype) in layout.items()}

    @classmethod
    def restore(
        cls, state: dict[str, Tensor], num_classes: int, ipc: int, spec: ClipSpec, **options: Any
    ) -> Self:
        """A memory that renders exactly what is stored, decoded row by row when asked for.

        Raises:
            ValueError: a tensor is missing, or not of the shape and type that the arguments tell.
        """
        with torch.device("meta"):
            memory = cls(num_classes, ipc, spec, **options, budget=0)
        for name, (shape, dtype) in memory.layout().items():
            found = f"{tuple(state[name].shape)} {state[name].dtype}" if name in state else "missing"
            if found != f"{shape} {dtype}":
                raise ValueError(f"stored {name} are {found}, expected {shape} {dtype}")
        memory.integrator.to_empty(device="cpu")
        weights = {
            name.removeprefix(INTEGRATOR): t for name, t in state.items() if name.startswith(INTEGRATOR)
        }
        memory.integrator.load_state_dict(weights)
        memory.integrator.requires_grad_(False)
        for name in ("stills", "motions"):
            memory.register_parameter(name, None)
        memory.start = None
        memory.kept = {name: f"kept_{name}" for name in memory.layout() if not name.startswith(INTEGRATOR)}
        for name, buffer in memory.kept.items():
            memory.register_buffer(buffer, state[name], persistent=False)
        return memory

    def options(self) -> dict[str, object]:
        """What rebuilds it."""
        names = {"statics": self.statics, "dynamics": self.dynamics, "integrator": self.kind}
        return names | {"width": self.width, "precision": self.precision}


def occurrences(rows: Tensor) -> Tensor:
    """How often each of rows (N,) came before, (N,)."""
    ordered, order = rows.sort(stable=True)
    before = torch.arange(len(rows), device=rows.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(before).scatter_(0, order, before)


def quantised(motions: Tensor) -> dict[str, Tensor]:
    """Motion clips (..., T, H, W) in 256 levels, with the lowest value and the step of each, (...)."""
    low, high = motions.amin((-3, -2, -1)), motions.amax((-3, -2, -1))
    step = (high - low) / 255
    levels = (motions - low[..., None, None, None]) / step.clamp_min(1e-12)[..., None, None, None]
    return {"motions": levels.round().clamp(0, 255).byte(), "motion_low": low, "motion_step": step}


def dequantised(motions: Tensor, low: Tensor, step: Tensor) -> Tensor:
    """Motion clips (N, T, H, W) float of levels, lowest values (N,) and steps (N,)."""
    return motions.float() * step[:, None, None, None] + low[:, None, None, None]
