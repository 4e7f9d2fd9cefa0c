#!/usr/bin/env bash
# Accuracy at 1 to N items per class of one multi-size run, against A (a run per size), B (N runs of one item, joined)
# and C (prefixes of one plain run), on grid_s1_digits with 3 student seeds. Resumable; PARTS picks among
# dm dm-ablations dc mtt datm edc herding report, KINDS among multi C A B; N is 5 unless given, SEEDS the condensation seeds
# (0 unless given).
#   ROOT=<folder of grid_s1_digits> OUT=runs/grid PARTS="dm report" bash tools/experiments/multisize.sh
STUDENT=${STUDENT-_in}
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parts=" ${PARTS:-dm datm edc herding dm-ablations report} "
N=${N:-5}
SEEDS=${SEEDS:-0}
kinds=" ${KINDS:-multi C A B} "

at_size() { # name, size, labels: three students on the first items
  [ -f "$OUT/$1/condensed/evaluations/$3-ipc$2$STUDENT.json" ] || vdc evaluate --condensed "$OUT/$1/condensed" \
    --data.root "$ROOT" --config "protocol_grid$STUDENT.yaml" --protocol.epochs "$(epochs "$2")" \
    --protocol.batch_size 10 --ipc "$2" --labels "$3" --name "$3-ipc$2$STUDENT" --progress false
}

sizes() { # name, labels: all sizes of a set
  local size
  for size in $(seq "$N"); do at_size "$1" "$size" "$2"; done
}

joined() { # name, parts: put sets together
  local name=$1
  shift
  [ -f "$OUT/$name/condensed/manifest.json" ] || vdc join "${@/%//condensed}" --out "$OUT/$name/condensed"
}

compare() { # method, labels, further flags of fit: multi-size, C, A and B
  local method=$1 labels=$2 config=$1_grid.yaml seed size name first
  shift 2
  for seed in $SEEDS; do
    name=sizes/$method-$seed
    if [[ $kinds == *" multi "* ]]; then
      condense "$name-multi" "multisize_$config" --seed_everything "$seed" --model.ipc "$N" "$@"
      sizes "$name-multi" "$labels"
    fi
    if [[ $kinds == *" C "* ]]; then
      condense "$name-ipc$N" "$config" --seed_everything "$seed" --model.ipc "$N" "$@"
      sizes "$name-ipc$N" "$labels"
    fi
    if [[ $kinds == *" A "* ]]; then # its largest is C
      for size in $(seq $((N - 1))); do
        condense "$name-ipc$size" "$config" --seed_everything "$seed" --model.ipc "$size" "$@"
        at_size "$name-ipc$size" "$size" "$labels"
      done
    fi
    if [[ $kinds == *" B "* ]]; then # other seeds start from other clips
      condense "$name-ipc1" "$config" --seed_everything "$seed" --model.ipc 1 "$@"
      for first in $(seq 2 "$N"); do
        condense "$name-one$first" "$config" --seed_everything $((100 * first + seed)) --model.ipc 1 "$@"
      done
      joined "$name-joined" "$OUT/$name-ipc1" $(seq -f "$OUT/$name-one%.0f" 2 "$N")
      sizes "$name-joined" "$labels"
    fi
  done
}

run() { [[ $parts == *" $1 "* ]]; }

if run dm; then
  experts
  compare dm hard --model.experts "$OUT/experts"
fi
if run dc; then compare dc hard; fi
if run mtt; then # inner steps on all clips, as published and at one item in matching.sh
  experts
  compare mtt hard --model.experts "$OUT/experts" --trainer.max_steps 160
fi
if run datm; then # the learnt labels; inner batches of 10 clips and 60 steps, as at ipc 5 in matching.sh
  experts
  compare datm soft --model.experts "$OUT/experts" --model.batch_syn 10 --model.step_size 0.02 --trainer.max_steps 60
fi
if run edc; then
  teacher
  compare edc hard --model.teachers "[$TEACHER]" --model.iterations 100 # as at ipc 5 in statistics.sh
fi
if run herding; then # selection order: sizes for free
  teacher
  condense "sizes/herding" herding_grid.yaml --model.ipc "$N" --model.teacher "$TEACHER"
  sizes "sizes/herding" hard
fi
if run dm-ablations; then
  experts
  for flag in "classwise true" "freeze predecessor" "interval 1000"; do
    name=sizes/ablations/dm-${flag%% *}
    condense "$name" multisize_dm_grid.yaml --model.ipc "$N" --model.experts "$OUT/experts" --multisize.${flag}
    sizes "$name" hard
  done
fi
if run report; then
  shopt -s nullglob
  vdc report "$OUT"/sizes/{*-[0-9]*,herdin[g]}/condensed --out "$OUT/multisize"
  for set in "$OUT"/sizes/ablations/*/condensed; do
    vdc report "$set" --out "$OUT/multisize/$(basename "$(dirname "$set")")"
  done
fi
