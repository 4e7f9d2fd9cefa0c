"""A condensed set for people and other programs: a checked summary, and videos."""

from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from vdc.condensed.export import Format
from vdc.condensed.export import export as write_videos
from vdc.condensed.format import load
from vdc.system.text import plain, printable

SHOWN = 8  # class names


def show(condensed: str) -> None:
    """Check every file of a condensed set and say what it holds.

    Args:
        condensed: folder of the set.
    """
    stored = load(condensed)
    manifest, names = stored.manifest, stored.classes
    labels, more = manifest["labels"], ", ..." if len(names) > SHOWN else ""
    lines = {
        "method": f"{manifest['method']}, seed {manifest['seed']}",
        "classes": f"{len(names)}: {', '.join(names[:SHOWN])}{more}",
        "items": f"{stored.ipc} per class in {manifest['memory']['class']}, {stored.per_item} clip(s) each",
        "clips": ", ".join(f"{key} {value}" for key, value in manifest["spec"].items() if value is not None),
        "labels": ", ".join(f"{key} {labels[key]}" for key in ("kind", "views", "top") if key in labels),
        "learnt": ", ".join(f"{key} {value}" for key, value in manifest.get("learnt", {}).items()),
        "bytes": ", ".join(f"{part} {size:,}" for part, size in stored.nbytes.items()),
        "previews": f"{stored.path}/preview.png, {stored.path}/preview.mp4",
        "evaluations": str(len(list(Path(stored.path, "evaluations").glob("*.json")))),
        "versions": ", ".join(f"{name} {number}" for name, number in manifest["versions"].items()),
    }
    table = Table("", Column(plain(f"{stored.path}: every file is as it was written")))
    for name, line in lines.items():
        table.add_row(name, plain(line))
    Console().print(table)


def export(condensed: str, out: str, ipc: int | None = None, format: Format = "videos") -> None:
    """Write a condensed set as mp4 files and a `path label` list, for other toolkits; or as JPEG folders, or a tar.

    Args:
        condensed: folder of the set.
        out: a new or empty folder.
        ipc: items per class; all of them where not given.
        format: `videos`; `frames`: folders of JPEG files with a list of `path frames label`, as mmaction2 reads raw
            frames; `webdataset`: `clips.tar` of `000000.mp4` and `000000.cls`; `mmaction2`: videos, annotation file and
            config; `huggingface`: a folder that `datasets` loads, with its card.
    """
    stored = load(condensed, ipc)
    written = write_videos(stored, out, format=format)
    files = sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
    print(
        f"{format} in {printable(out)}: {files:,} bytes; the set itself stores "
        f"{sum(stored.nbytes.values()):,}",
    )
