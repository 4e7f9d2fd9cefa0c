"""Which clips come from one recording, as far as their names tell: a split must not tear them apart."""

import os
import re
from collections.abc import Sequence

RULES = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("Kinetics' video ids", r"(.+)_\d{6}_\d{6}$"),
        ("UCF101's groups", r"(.+_g\d+)_c\d+$"),
        ("HMDB51's sources", r"(.+?)(?:_[fulh])?_(?:cm|nm)_np\d+_(?:fr|ba|le|ri)_(?:goo|med|bad)_\d+$"),
        ("NTU's persons", r"S\d{3}C\d{3}(P\d{3})R\d{3}A\d{3}"),
        ("sequences", r"(.*?(?:seq|sequence|session|scene|recording|rec)[_-]?\d+)(?![a-z0-9])"),
        (
            "persons",
            r"(?:.*[_\-. ])?((?:person|people|subject|subj|sub|actor|speaker|spk|signer|user|participant|player|p|s)"
            r"[_-]?\d+)(?![a-z0-9])",
        ),
    )
)
COUNTERS = frozenset(  # first words of names that say nothing of who is seen
    ("video", "vid", "clip", "movie", "mov", "mvi", "img", "dsc", "dscn", "pxl", "gopr", "gx", "gh", "wa", "frame",
     "sample", "example", "train", "test", "val", "v", "the", "a")
)  # fmt: skip
WORDS = re.compile(r"[_\-. ]+")
MOST = 0.9  # share of the names that a rule has to fit


def sources_of(paths: Sequence[str], classes: Sequence[str]) -> tuple[list[str], str]:
    """The source of every clip, and by what it is told.

    Args:
        paths: of the clips.
        classes: name of each clip's class, which is no part of a source.

    Returns:
        A key per clip, equal for clips of one source; and what told them: `persons`, `UCF101's groups`, ...
        Empty where names do not tell: then every clip is a source of its own.
    """
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    own = [f"{name}/{stem}" for name, stem in zip(classes, stems, strict=True)]
    for told, pattern in RULES:
        matches = [pattern.match(stem) for stem in stems]
        if sum(map(bool, matches)) < max(MOST * len(stems), 1):
            continue
        found = [
            _without(m[1], name) if m else key for m, name, key in zip(matches, classes, own, strict=True)
        ]
        if told not in ("sequences", "persons") or 1 < len(set(found)) < len(found):
            return found, told
    first = [
        re.split(r"[_\-. ]+", _without(stem, name))[0] for stem, name in zip(stems, classes, strict=True)
    ]
    if _are_persons(first, classes):
        return [word.casefold() for word in first], "first words of the names"
    return own, ""


def _without(text: str, name: str) -> str:
    """A name without that of its class at either end, as words joined by `_`."""
    words, own = WORDS.split(text), WORDS.split(name)
    folded = [word.casefold() for word in words]
    other = [word.casefold() for word in own]
    if len(words) > len(own) and folded[-len(own) :] == other:
        words = words[: -len(own)]
    elif len(words) > len(own) and folded[: len(own)] == other:
        words = words[len(own) :]
    return "_".join(words)


def _are_persons(words: list[str], classes: Sequence[str]) -> bool:
    """Whether first words of names look like persons: several, each in several clips and most in several classes."""
    seen: dict[str, set[str]] = {}
    for word, name in zip(words, classes, strict=True):
        if not re.search(r"[^\W\d_]", word) or word.casefold() in COUNTERS:
            return False
        seen.setdefault(word.casefold(), set()).add(name)
    shared = sum(len(names) > 1 for names in seen.values())
    return 2 <= len(seen) <= len(words) / 2 and (2 * shared > len(seen) or len(set(classes)) == 1)
