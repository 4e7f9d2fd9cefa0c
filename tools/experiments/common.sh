# Shared by the experiment scripts: source it. Every step is skipped or resumed when its result is there, so a
# script that was stopped is continued by starting it again. Results land as JSON in <set>/evaluations.
#   ROOT=<folder of grid_s1_digits> OUT=runs/grid bash tools/experiments/<script>.sh
set -euo pipefail
ROOT=${ROOT:?set ROOT to the folder of grid_s1_digits, with train.txt and test.txt}
OUT=${OUT:-runs/grid}
TEACHER=$OUT/teacher_minic3d

teacher() { # the MiniC3D teacher, which is also the full-data bound
  [ -f "$TEACHER/teacher.json" ] || vdc pretrain --config teacher_grid.yaml --data.root "$ROOT" --out "$TEACHER"
}

condense() { # name, config, further flags
  local name=$1 config=$2
  shift 2
  [ -f "$OUT/$name/condensed/manifest.json" ] || vdc fit --config "$config" --data.root "$ROOT" --resume \
    --trainer.default_root_dir "$OUT/$name" --trainer.enable_progress_bar false "$@"
}

students() { # name, ipc, labels, further flags: three seeds of 300 steps with 10 clips, whatever the ipc
  local name=$1 ipc=$2 labels=$3 with=()
  shift 3
  [ "$labels" = live ] && with=(--teacher "$TEACHER")
  [ -f "$OUT/$name/condensed/evaluations/$labels.json" ] || vdc evaluate --condensed "$OUT/$name/condensed" \
    --data.root "$ROOT" --config protocol_grid.yaml --protocol.epochs $((300 / ipc)) \
    --protocol.batch_size 10 --labels "$labels" --name "$labels" --progress false "${with[@]}" "$@"
}
