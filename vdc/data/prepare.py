"""Transcode a set of videos once, to small frames and short groups of pictures: cheap to decode at random."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from vdc.data.folders import ANNOTATIONS, VIDEOS, LeftOut, has_suffix, walk
from vdc.data.prepared_lists import LISTS, account, copies, copy_lists, describe
from vdc.data.readers.base import BadVideo
from vdc.data.readers.container import orientation, upright
from vdc.data.readers.pyav import VideoFile
from vdc.system.files import atomic_write, disk_errors, sweep, write_json
from vdc.system.mp4 import encode
from vdc.system.progress import track
from vdc.system.text import printable

JOURNAL, REPORT = "prepare.jsonl", "prepare.json"


class Settings(NamedTuple):
    """How videos are written."""

    short_side: int
    gop: int
    crf: int


class Job(NamedTuple):
    """One video to write."""

    source: Path
    target: Path
    settings: Settings


def scaled(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width, even, of a frame whose short side becomes `short_side`; none grows."""
    share = min(1.0, short_side / min(height, width))
    return max(2, 2 * round(height * share / 2)), max(2, 2 * round(width * share / 2))


def _upright(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame as players show it: what is written says nothing of a camera held sideways."""
    if not any(turns := orientation(frame)):
        return frame
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(upright(frame.to_ndarray(format="rgb24"), *turns)))


def transcode(job: Job) -> int:
    """Write one video, whole or not at all; frames stay in order and none is added, sound is dropped.

    Returns:
        frames written.

    Raises:
        BadVideo: the source cannot be read to its end.
    """
    video = VideoFile(str(job.source))
    frames = map(_upright, video.frames())
    first = next(frames)
    size = scaled(first.height, first.width, job.settings.short_side)
    # without B-frames and arithmetic coding: a few bytes more, decoded faster
    options = {"bf": "0", "tune": "fastdecode", "preset": "veryfast"}
    options |= {"crf": str(job.settings.crf), "g": str(job.settings.gop)}
    with atomic_write(job.target) as temporary:
        return encode(temporary, chain([first], frames), size, video.rate.limit_denominator(1001), options)


def _die_with_parent() -> None:
    """Workers outlive a main process that is killed, unless they watch it; Ctrl-C is for it alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _context() -> Any:
    """How workers start: never by forking this process, whose threads may hold locks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imported once, not once per worker
    return context


def _run(jobs: dict[str, Job], workers: int) -> Iterator[tuple[str, int | BadVideo]]:
    """Write videos in parallel: name, and frames written or why not, as they end."""
    if workers == 1:
        for name, job in jobs.items():
            try:
                yield name, transcode(job)
            except BadVideo as error:
                yield name, error
        return
    pool = ProcessPoolExecutor(workers, _context(), _die_with_parent)
    try:
        names: dict[Future[int], str] = {pool.submit(transcode, job): name for name, job in jobs.items()}
        for future in as_completed(names):
            reason = future.exception()
            yield names[future], reason if isinstance(reason, BadVideo) else future.result()
    except BrokenProcessPool as error:
        raise OSError(
            "a worker died: out of memory, or a video that crashes the decoder. Run again to go on; "
            "--workers 1 shows where"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _sources(root: Path, out: Path) -> tuple[dict[str, Path], list[Path], LeftOut]:
    """Videos below `root`, by the relative path they are written to; list files; and what is left out."""
    videos: dict[str, Path] = {}
    lists, left = list[Path](), LeftOut()
    for folder, folders, files in walk(root):
        folders[:] = [name for name in folders if (folder / name).resolve() != out]
        notes = any(part.casefold() in ANNOTATIONS for part in folder.relative_to(root).parts)
        for path in (folder / name for name in files):
            if path.suffix.lower() in LISTS:
                lists.append(path)
            elif notes or not has_suffix(path.name):
                left.add(path, "in a folder of annotations" if notes else None)
            else:
                target = str(path.relative_to(root).with_suffix(".mp4"))
                if target in videos:
                    raise ValueError(f"{path} and {videos[target]} would both become {target}: rename one")
                videos[target] = path
    if not videos:
        found = f"; left out: {left}" if left else ""
        raise ValueError(f"--root {root} holds no videos ({', '.join(sorted(VIDEOS))}){found}")
    return videos, lists, left


def _stamp(path: Path) -> list[int]:
    """Size and time of a source, by which it is known to be unchanged; nothing if it is not there."""
    with suppress(OSError):
        stat = path.stat()
        return [stat.st_size, stat.st_mtime_ns]
    return []


def _journal(out: Path, settings: Settings) -> dict[str, list[int]]:
    """Stamps of the sources that an earlier run finished, by relative path.

    Raises:
        ValueError: that run had other settings.
    """
    done: dict[str, list[int]] = {}
    path = out / JOURNAL
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line a killed run was writing
        if "settings" not in entry:
            done[entry["path"]] = entry["source"]
        elif entry["settings"] != settings._asdict():
            raise ValueError(f"--out {out} holds videos made with {entry['settings']}: choose another folder")
    return done


def _clean(out: Path) -> None:
    """Remove what a killed run was writing."""
    for folder in {out, *(path.parent for path in out.rglob(".*.mp4"))}:
        sweep(folder)


def _check(root: Path, out: Path, lists: Sequence[Path], settings: Settings) -> None:
    """Refuse what makes no sense before anything is written."""
    if not root.is_dir():
        raise FileNotFoundError(f"--root {root}: no such folder")
    if out == root:
        raise ValueError(f"--out {out} is the source itself: choose another folder")
    for path in lists:
        if not path.is_file():
            raise FileNotFoundError(f"--lists {path}: no such file")
    for name, low in (("short_side", 16), ("gop", 1), ("crf", 0)):
        if getattr(settings, name) < low:
            raise ValueError(f"--{name} must be at least {low}, got {getattr(settings, name)}")


def prepare(
    root: str,
    out: str,
    short_side: int = 128,
    gop: int = 8,
    crf: int = 18,
    workers: int | None = None,
    lists: Sequence[str] = (),
) -> dict[str, Any]:
    """Write a small copy of every video below `root`, in parallel; a run that was stopped goes on.

    `a/b.avi` becomes `a/b.mp4` (H.264, no sound, upright). List files below `root` are copied unchanged and
    work as before: where a listed video is missing, its .mp4 stands in. What could not be read is printed and
    listed in the report, `prepare.json`.

    Args:
        root: folder of the videos.
        out: folder of the copies.
        short_side: pixels of the short side; smaller videos keep their size.
        gop: most frames from one that decodes alone to the next.
        crf: of libx264: 18 looks the same, higher is smaller.
        workers: processes; one per core where not given.
        lists: list files outside `root` to copy to the top of `out`.

    Returns:
        The report: counts of videos, `written` now and `kept` from before, `failed` with path and reason; what was
        `left_out`, by suffix; and of every list how many of its lines have a video, and why others have none.

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: nothing to do, or `out` was made with other settings.
        OSError: the disk is full, or a worker died.
    """
    source, target, settings = Path(root).resolve(), Path(out).resolve(), Settings(short_side, gop, crf)
    elsewhere, started = [Path(path).resolve() for path in lists], time.monotonic()
    _check(source, target, elsewhere, settings)
    videos, found, left = _sources(source, target)
    listings = copies([*found, *elsewhere], source, target)
    done = _journal(target, settings)
    target.mkdir(parents=True, exist_ok=True)
    _clean(target)
    copy_lists(listings)
    stamps = {name: _stamp(path) for name, path in videos.items()}
    jobs = {
        name: Job(path, target / name, settings)
        for name, path in videos.items()
        if done.get(name) != stamps[name] or not (target / name).is_file()
    }
    failed = _write(jobs, stamps, target / JOURNAL, settings, workers)
    reasons = {entry["path"]: entry["reason"] for entry in failed}
    missing = {name: reasons[str(path)] for name, path in videos.items() if str(path) in reasons}
    report = {
        "root": str(source),
        "settings": settings._asdict(),
        "videos": len(videos),
        "written": len(jobs) - len(failed),
        "kept": len(videos) - len(jobs),
        "failed": failed,
        "left_out": left.counts(),
        "lists": account(list(listings.values()), target, missing),
        "bytes": {
            "before": sum(stamp[0] for stamp in stamps.values() if stamp),
            "after": sum((target / name).stat().st_size for name in videos if (target / name).is_file()),
        },
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(target / REPORT, report)
    _print(report, target, str(left))
    return report


def _write(
    jobs: dict[str, Job], stamps: dict[str, list[int]], path: Path, settings: Settings, workers: int | None
) -> list[dict[str, str]]:
    """Write videos and journal each that is done; those that could not be read, with the reason."""
    failed = []
    with disk_errors(path), path.open("a", encoding="utf-8") as journal:
        journal.write(
            "\n" + json.dumps({"settings": settings._asdict()}) + "\n"
        )  # a killed run left half a line
        ended = _run(jobs, min(workers or os.cpu_count() or 1, len(jobs) or 1))
        bar = track(ended, "prepare", len(stamps), len(stamps) - len(jobs), "videos")
        for name, result in bar:
            if isinstance(result, BadVideo):
                jobs[name].target.unlink(missing_ok=True)  # of an earlier, sound source
                failed.append({"path": str(jobs[name].source), "reason": str(result)})
                continue
            journal.write(json.dumps({"path": name, "source": stamps[name], "frames": result}) + "\n")
            journal.flush()
    return sorted(failed, key=lambda entry: entry["path"])


def _print(report: dict[str, Any], out: Path, left: str) -> None:
    """A summary for people."""
    before, after = (report["bytes"][key] / 1e6 for key in ("before", "after"))
    ready = report["written"] + report["kept"]
    told = [f"{ready} of {report['videos']} videos are ready in {out}: {before:.1f} MB became {after:.1f} MB"]
    told += [f"could not be read: {entry['reason']}" for entry in report["failed"][:10]]
    if len(report["failed"]) > 10:
        told.append(f"and {len(report['failed']) - 10} more: see {out / REPORT}")
    if left:
        told.append(f"left out, as no videos by their names: {left}")
    print("\n".join(map(printable, [*told, *describe(report["lists"])])))
