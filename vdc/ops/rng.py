"""Random numbers that depend on what is drawn for, not on what was drawn before: resumable and rank-independent."""

import hashlib

import torch


def derive(seed: int, *keys: int | str) -> int:
    """A 63-bit seed from `seed` and what the draw is for, stable over processes, platforms and versions."""
    text = ":".join(map(str, (seed, *keys))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *keys: int | str) -> torch.Generator:
    """A CPU generator for one purpose, e.g. `generator(seed, "crop", step)`."""
    return torch.Generator().manual_seed(derive(seed, *keys))
