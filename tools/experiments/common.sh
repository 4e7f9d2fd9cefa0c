# Shared by the experiment scripts: source it. Every step is skipped or resumed when its result is there, so a
# script that was stopped is continued by starting it again. Results land as JSON in <set>/evaluations.
#   ROOT=<folder of grid_s1_digits> OUT=runs/grid bash tools/experiments/<script>.sh
# STUDENT: `_in` is the student of protocol_grid_in.yaml, nothing that of protocol_grid.yaml; ends names of results.
set -euo pipefail
ROOT=${ROOT:?set ROOT to the folder of grid_s1_digits, with train.txt and test.txt}
OUT=${OUT:-runs/grid}
TEACHER=$OUT/teacher_minic3d
STUDENT=${STUDENT-}

teacher() { # the MiniC3D that scores and labels clips
  [ -f "$TEACHER/teacher.json" ] || vdc pretrain --config teacher_grid.yaml --data.root "$ROOT" --out "$TEACHER"
}

experts() { # four trajectories, for MTT and DATM, and networks for DM, NCFM and DC
  [ -f "$OUT/experts/expert_0003.json" ] || vdc pretrain --config experts_grid.yaml --data.root "$ROOT" --out "$OUT/experts"
}

full() { # the student of the tables on all training videos: the bound
  [ -f "$OUT/full/full$STUDENT.json" ] || vdc evaluate --full --config "protocol_grid$STUDENT.yaml" --data RealData \
    --data.root "$ROOT" --data.train train.txt --data.test test.txt \
    --data.spec '{frames: 8, size: 48, stride: 2}' --protocol.epochs 12 --protocol.zeta 1 \
    --out "$OUT/full" --name "full$STUDENT" --progress false
}

condense() { # name, config, further flags
  local name=$1 config=$2
  shift 2
  [ -f "$OUT/$name/condensed/manifest.json" ] || vdc fit --config "$config" --data.root "$ROOT" --resume \
    --trainer.default_root_dir "$OUT/$name" --trainer.enable_progress_bar false "$@"
}

views() { # name: store 60 augmented views of every clip with the teacher's logits (multi-soft labels)
  [ -f "$OUT/$1/condensed/evaluations/views$STUDENT.json" ] || grep -q '"views"' "$OUT/$1/condensed/manifest.json" || vdc relabel --condensed "$OUT/$1/condensed" \
    --teacher "$TEACHER" --labels views --views 60 --crop_scale "[0.6,1.0]"
}

soft() { # name: store the teacher's logits of every clip, seen whole (soft labels)
  [ -f "$OUT/$1/condensed/evaluations/soft$STUDENT.json" ] ||
    grep -q '"kind": "soft"' "$OUT/$1/condensed/manifest.json" || vdc relabel --condensed "$OUT/$1/condensed" --teacher "$TEACHER" --labels soft
}

epochs() { # clips per class: of students. With instance norm hard labels of more clips take longer to be learnt
  if [ "$STUDENT" = _in ]; then echo $(((75 + 75 * $1) / $1)); else echo $((300 / $1)); fi
}

students() { # name, clips per class, labels, further flags: three seeds with batches of 10 clips
  local name=$1 ipc=$2 labels=$3
  shift 3
  [ -f "$OUT/$name/condensed/evaluations/$labels$STUDENT.json" ] || vdc evaluate \
    --condensed "$OUT/$name/condensed" --data.root "$ROOT" --config "protocol_grid$STUDENT.yaml" \
    --protocol.epochs "$(epochs "$ipc")" --protocol.batch_size 10 --labels "$labels" --name "$labels$STUDENT" \
    --progress false "$@"
}

holdout() { # every fifth training clip of a class is kept for tuning; the test clips are not looked at
  mkdir -p "$OUT/lists"
  awk -v out="$OUT/lists" '{ print > (out "/" (++n[$2] % 5 ? "tune" : "val") ".txt") }' "$ROOT/train.txt"
  TUNE=(--data.train "$(realpath "$OUT/lists/tune.txt")" --data.test "$(realpath "$OUT/lists/val.txt")")
}

tune() { # name, config, ipc, labels, further flags of fit: condense without the held-out clips, score on them
  local name=tune/$1 config=$2 ipc=$3 labels=$4
  shift 4
  condense "$name" "$config" "${TUNE[@]}" --model.ipc "$ipc" "$@"
  [ "$labels" = hard ] || "$labels" "$name"
  students "$name" "$ipc" "$labels" "${TUNE[@]}" --seeds "${SEEDS:-2}"
}
