#!/usr/bin/env bash
# Statistics matching on grid_s1_digits beside Random and RDED: labels, sizes and the ablations of EDC.
# Needs what selection.sh leaves (its teacher and sets); PARTS picks from: main noise ipc5 ablations windows report.
# All of it took two and a half hours on two cores that did other work too.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
POOL="[$TEACHER, $OUT/teacher_i3d, $OUT/teacher_slowonly]"
parts=" ${PARTS:-main noise ipc5 ablations windows report} "

pool() { # two residual teachers, trained briefly: 5 and 16 minutes on one core
  [ -f "$OUT/teacher_i3d/teacher.json" ] || vdc pretrain --config teacher_grid.yaml --net i3d \
    --net_options '{}' --data.root "$ROOT" --out "$OUT/teacher_i3d" --protocol.epochs 8
  [ -f "$OUT/teacher_slowonly/teacher.json" ] || vdc pretrain --config teacher_grid.yaml --net slowonly \
    --net_options '{}' --data.root "$ROOT" --out "$OUT/teacher_slowonly" --protocol.epochs 5
}

all_labels() { # name, ipc: stored labels first, since a change of them is another set
  soft "$1"
  views "$1"
  for labels in hard soft views; do students "$1" "$2" $labels; done
}

edc() { # name, ipc, further flags
  local name=$1 ipc=$2
  shift 2
  condense "$name" edc_grid.yaml --model.ipc "$ipc" --model.teachers "[$TEACHER]" "$@"
}

teacher
if [[ $parts == *" main "* ]]; then
  pool
  for method in random rded; do soft $method-1 && students $method-1 1 soft; done
  edc edc-1 1 && all_labels edc-1 1
  edc edc-start 1 --model.iterations 1 --model.optimizer.init_args.lr 1e-9 && soft edc-start # the clips it starts from
  for labels in hard soft; do students edc-start 1 $labels; done
fi
if [[ $parts == *" noise "* ]]; then
  pool
  condense sre2l-1 sre2l_grid.yaml --model.teachers "[$TEACHER]" --model.iterations 200 && all_labels sre2l-1 1
  condense gvbsm-1 gvbsm_grid.yaml --model.teachers "$POOL" --model.iterations 200 && all_labels gvbsm-1 1
fi
if [[ $parts == *" ipc5 "* ]]; then
  soft random-5 && students random-5 5 soft
  edc edc-5 5 --model.iterations 100 && all_labels edc-5 5
fi
if [[ $parts == *" ablations "* ]]; then # one change each, soft labels
  pool
  one() { # name, further flags
    edc "$1" 1 "${@:2}"
    soft "$1"
    students "$1" 1 soft
  }
  one edc-alpha0 --model.alpha 0
  one edc-alpha1 --model.alpha 1
  one edc-noise --model.init noise --model.optimizer.init_args.lr 0.05 # 0.002 does not get away from noise
  one edc-rded --model.init "$OUT/rded-1/condensed"
  one edc-pool --model.teachers "$POOL"
fi
if [[ $parts == *" windows "* ]]; then # stride 1: 16 stored frames are the whole video; views: the same windows
  [ -f "$OUT/teacher_s1/teacher.json" ] || vdc pretrain --config teacher_grid.yaml --data.root "$ROOT" \
    --out "$OUT/teacher_s1" --data.spec.stride 1 --protocol.epochs 8
  window() { # name, further flags
    TEACHER=$OUT/teacher_s1 edc "$1" 1 --data.spec.stride 1 "${@:2}"
    TEACHER=$OUT/teacher_s1 views "$1"
    students "$1" 1 views --data.spec.stride 1
  }
  window edc-8
  window edc-16-segment --data.spec.stored_frames 16 --data.spec.window segment
  window edc-16-slide --data.spec.stored_frames 16 --data.spec.window slide
  window edc-16-linear --data.spec.stored_frames 16 --data.spec.window slide --data.spec.window_frames 4 \
    --data.spec.interpolation linear
fi
if [[ $parts == *" report "* ]]; then
  vdc report "$TEACHER" "$OUT/full" "$OUT"/{random,rded}-{1,5}/condensed "$OUT"/{sre2l,gvbsm}-1/condensed \
    "$OUT"/edc-*/condensed --out "$OUT/statistics"
fi
