"""`--trainer.logger` of commands that train several networks."""

import csv
import io
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image

from vdc.cli import main
from vdc.cli.loggers import trainers
from vdc.system.logs import log_image


def film():
    """Two frames."""
    held = io.BytesIO()
    first, second = (Image.new("RGB", (2, 1), colour) for colour in ("red", "blue"))
    first.save(held, "GIF", save_all=True, append_images=[second])
    return held.getvalue()


GIF = film()


def logged(given, folder):
    make = trainers({"accelerator": "cpu", "logger": None}, given)
    return make(logger=TensorBoardLogger(str(folder), name="", version="")).loggers


def test_every_network_has_a_logger_of_its_own(tmp_path):
    assert isinstance(logged(None, tmp_path)[0], TensorBoardLogger)
    assert logged(False, tmp_path) == []
    named = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(tmp_path)}}
    first, second = (logged(named, Path("runs/i3d-hard") / seed)[0] for seed in ("seed0", "seed1"))
    assert isinstance(first, CSVLogger)
    assert [Path(one.log_dir).relative_to(tmp_path) for one in (first, second)] == [
        Path("i3d-hard/seed0"), Path("i3d-hard/seed1"),
    ]  # fmt: skip
    both = logged([named, {"class_path": "lightning.pytorch.loggers.TensorBoardLogger"}], tmp_path / "x/y")
    assert [type(one) for one in both] == [CSVLogger, TensorBoardLogger]
    assert Path(both[1].log_dir) == tmp_path / "x/y"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pretrain_and_evaluate_log_where_they_are_told(here):
    toy = [
        "--config",
        "data_toy",
        "--data.root",
        "toy",
        "--data.train_videos",
        "1",
        "--data.test_videos",
        "1",
    ]
    small = ["--net_options", '{"width": 0.125}', "--protocol.epochs", "2", "--protocol.batch_size", "10"]
    log = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs", "--progress", "false"]
    main(["pretrain", *toy, *small, *log, "--out", "teacher"])
    main(["evaluate", "--full", *toy, *small, *log, "--out", "full", "--seeds", "2"])
    files = sorted(Path("logs").rglob("metrics.csv"))
    assert len(files) == 3
    for file in files:
        rows = list(csv.DictReader(file.open()))
        assert any("loss" in name for name in rows[0])
    assert not list(here.rglob("events.out.tfevents*"))


def test_pictures_go_to_weights_and_biases(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    given = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"offline": True}}
    (logger,) = logged(given, tmp_path / "i3d-hard/seed0")
    assert logger._wandb_init["name"] == "i3d-hard/seed0"
    log_image([logger], "memory", GIF, (1, 2), 3)
    logger.experiment.finish()
    assert list(tmp_path.rglob("*.gif"))


def test_pictures_go_to_mlflow(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    given = {
        "class_path": "lightning.pytorch.loggers.MLFlowLogger",
        "init_args": {"save_dir": str(tmp_path / "mlruns")},
    }
    (logger,) = logged(given, tmp_path / "i3d-hard/seed0")
    log_image([logger], "memory", GIF, (1, 2), 3)
    (kept,) = tmp_path.rglob("00000003.gif")
    assert kept.read_bytes() == GIF
