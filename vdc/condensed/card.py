"""What other toolkits read beside the clips of an export: a dataset card, metadata, a config."""

import json
from collections.abc import Sequence

import yaml

from vdc.condensed.manifest import CondensedSet
from vdc.system.text import printable

SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
)  # as the hub names them
CARD = """---
{front}---

# {classes} classes of videos, condensed to {ipc} items each

{clips} chosen or learnt clips of {frames} frames of {size} px, made by `{method}` with vdc {version} so that a
network trained on them scores close to one trained on all videos that they stand for. They are not made to be looked
at: learnt clips may look like noise.

## Where it comes from

| | |
|---|---|
| method | {method}, seed {seed} |
| items per class | {ipc} in memory {memory} |
| labels | {labels}{soft} |
| source | {source} |
| the set itself | manifest digest `{digest}` |

The clips are near-lossless H.264 of what the set stores, {stride} raw frames of the source apart. Networks see
their colours normalised by mean {mean} and deviation {std}.

## Licence

That of the source videos holds for what was made of them; vdc does not know it. State it in the field `license`
above before you share this.

## Use

```python
from datasets import load_dataset

clips = load_dataset("videofolder", data_dir="DIR", split="train")  # columns video and label, a class's name
```
"""
CONFIG = '''"""A condensed set for mmaction2 1.x: name this file in `_base_`, and set data_root to its folder."""

dataset_type = "VideoDataset"
data_root = "."
num_classes = {classes}
clip_len, frame_interval, size = {frames}, 1, {size}

train_pipeline = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=clip_len, frame_interval=frame_interval, num_clips=1),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(size, size), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
train_dataloader = dict(
    batch_size={batch},
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        ann_file="train_list.txt",
        data_root=data_root,
        data_prefix=dict(video="videos"),
        pipeline=train_pipeline,
    ),
)
data_preprocessor = dict(  # of the model
    type="ActionDataPreprocessor", mean={mean}, std={std}, format_shape="NCTHW"
)
'''


def metadata(classes: Sequence[str], lines: Sequence[str]) -> str:
    """`metadata.jsonl` of a videofolder: every clip's file and its class's name.

    Args:
        classes: in label order.
        lines: `path label`.
    """
    rows = [line.rsplit(maxsplit=1) for line in lines]
    held = [{"file_name": path, "label": classes[int(label)]} for path, label in rows]
    return "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in held)


def card(condensed: CondensedSet, clips: int) -> str:
    """The `README.md` of a folder for the hub of Hugging Face, filled with what the manifest tells.

    Args:
        condensed: the set.
        clips: how many were written.
    """
    manifest = condensed.manifest
    front = {
        "task_categories": ["video-classification"],
        "tags": ["video", "dataset-condensation", "vdc"],
        "size_categories": [next((name for most, name in SIZES if clips < most), "n>1M")],
        "license": "other",
        "license_name": "as-the-source-videos",
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train/**"}]}],
    }
    spec, normal, source = manifest["spec"], manifest["normalisation"], manifest["source"].get("train")
    known = isinstance(source, dict) and "videos" in source
    text = {
        "front": yaml.safe_dump(front, sort_keys=False),
        "classes": condensed.num_classes,
        "clips": clips,
        "digest": manifest["digest"],
        "source": f"{source['videos']} training videos, list of sha256 `{source['sha256']}`"
        if known
        else "not told",
        "soft": ""
        if condensed.labels.kind == "hard"
        else ", in `labels.safetensors` in the order of `train/metadata.jsonl`",
        "labels": condensed.labels.kind,
        "version": manifest["versions"].get("vdc", ""),
        "memory": manifest["memory"]["class"],
        **{key: manifest[key] for key in ("method", "seed", "ipc")},
        **{key: spec[key] for key in ("size", "stride")},
        "frames": condensed.spec.stored,
        **normal,
    }
    return CARD.format(
        **{key: value if key == "front" else printable(str(value)) for key, value in text.items()}
    )


def mmaction2_config(condensed: CondensedSet) -> str:
    """`dataset.py`: the training part of a config of mmaction2."""
    normal = condensed.manifest["normalisation"]
    mean, std = ([round(255 * value, 3) for value in normal[key]] for key in ("mean", "std"))
    size, classes = condensed.spec.size, condensed.num_classes
    batch = min(64, 10 * classes)
    return CONFIG.format(
        classes=classes, frames=condensed.spec.stored, size=size, batch=batch, mean=mean, std=std
    )
