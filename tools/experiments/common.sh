# Shared by the experiment scripts: source it. Every step is skipped or resumed when its result is there, so a
# script that was stopped is continued by starting it again. Results land as JSON in <set>/evaluations.
#   ROOT=<folder of grid_s1_digits> OUT=runs/grid bash tools/experiments/<script>.sh
set -euo pipefail
ROOT=${ROOT:?set ROOT to the folder of grid_s1_digits (with train.txt and test.txt)}
OUT=${OUT:-runs/grid}
TEACHER=$OUT/teacher_minic3d
SHORT="--protocol.epochs 100 --protocol.checks 2" # a third of Video-DC's 300 epochs: what 2 cores allow

teacher() { # name, further flags: a MiniC3D trained on everything, and the full-data bound
  local name=$1; shift
  [ -f "$OUT/$name/teacher.json" ] || vdc pretrain --config teacher_grid.yaml --data.root "$ROOT" --out "$OUT/$name" \
    --protocol.epochs 30 --protocol.warmup_epochs 3 "$@"
}

condense() { # name, config, further flags
  local name=$1 config=$2; shift 2
  [ -f "$OUT/$name/condensed/manifest.json" ] || vdc fit --config "$config" --data.root "$ROOT" --resume \
    --trainer.default_root_dir "$OUT/$name" "$@"
}

students() { # name, labels, further flags: three seeds under the short protocol
  local name=$1 labels=$2; shift 2
  local with=()
  [ "$labels" = live ] && with=(--teacher "$TEACHER")
  # shellcheck disable=SC2086
  vdc evaluate --condensed "$OUT/$name/condensed" --data.root "$ROOT" --labels "$labels" --name "$labels" \
    $SHORT "${with[@]}" "$@"
}
