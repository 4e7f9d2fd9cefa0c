#!/usr/bin/env bash
# DM, MTT and FRePo on plain clips and on stills with motion clips, at equal or fewer bytes, and Static-DC.
# On grid_s1_digits hard labels, as in Wang 2024, and the teacher's; plain sets are those of matching.sh. With
# SET=toy, ROOT=<where the toy videos are or go> and an OUT of its own: the toy set, hard labels.
# PARTS picks from: experts stills dm mtt frepo tune (grid only) report. Rates, where not the configs': LR_DM LR_MTT
# LR_FREPO (motion), LRH_DM LRH_MTT LRH_FREPO (integrator).
STUDENT=${STUDENT-_in}
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parts=" ${PARTS:-experts stills dm mtt frepo report} "
SET=${SET:-grid}
if [ "$SET" = grid ]; then LABELS=${LABELS:-hard soft}; else LABELS=hard; fi

run() { [[ $parts == *" $1 "* ]]; }

scored() { # name, clips per class, kinds of labels
  local name=$1 clips=$2
  shift 2
  for kind in "$@"; do
    if [ "$kind" = soft ] && [[ $name == *frepo* ]]; then # learnt ones, for cross-entropy
      students "$name" "$clips" soft --protocol.loss soft_ce
      continue
    fi
    if [ "$kind" = soft ]; then soft "$name"; fi
    students "$name" "$clips" "$kind"
  done
}

rates() { # method: of motion clips and integrator, where they are given
  local motion="LR_$1" integrator="LRH_$1"
  [ -z "${!motion:-}" ] || echo "--model.optimizer.lr ${!motion}"
  [ -z "${!integrator:-}" ] || echo "--model.memory.lr_integrator ${!integrator}"
}

plain() { # name, method, further flags: the same with plain clips
  local name=$1 method=$2
  shift 2
  if [ "$SET" = grid ]; then
    condense "$name" "${method}_grid.yaml" "$@"
  else
    local -A rate=([dm]=0.02 [mtt]=0.005 [frepo]=0.002) # of the *_grid.yaml
    condense "$name" "s2d_${method}_toy.yaml" --model.memory Pixels --model.init real \
      --model.optimizer.lr "${rate[$method]}" "$@"
  fi
}

DM=(--model.pool "$OUT/experts")
MTT=(--model.experts "$OUT/experts")

if [ "$SET" = grid ]; then teacher; fi
if run experts; then vdc pretrain --config "experts_$SET.yaml" --data.root "$ROOT" --out "$OUT/experts"; fi
if run stills; then # one still per class is Static-DC; two start the pairs, and are also used alone
  for stills in 1 2; do
    condense "static-dc-$stills" "static_dc_$SET.yaml" --model.ipc "$stills"
    scored "static-dc-$stills" "$stills" $LABELS
  done
fi
START=(--model.init "$OUT/static-dc-2/condensed")
if run dm; then
  plain dm-1 dm "${DM[@]}"
  condense s2d-dm-1 "s2d_dm_$SET.yaml" "${DM[@]}" "${START[@]}" $(rates DM)
  for name in dm-1 s2d-dm-1; do scored "$name" 1 $LABELS; done
fi
if run mtt; then
  plain mtt-1 mtt "${MTT[@]}"
  condense s2d-mtt-1 "s2d_mtt_$SET.yaml" "${MTT[@]}" "${START[@]}" $(rates MTT)
  condense s2d-mtt-noise-1 "s2d_mtt_$SET.yaml" "${MTT[@]}" "${START[@]}" $(rates MTT) --model.memory.lr_dynamic 0
  deep=()
  if [ "$SET" = grid ]; then
    condense s2d-mtt-deep-1 s2d_mtt_deep_grid.yaml "${MTT[@]}" "${START[@]}" $(rates MTT)
    deep=(s2d-mtt-deep-1)
  fi
  for name in mtt-1 s2d-mtt{,-noise}-1 "${deep[@]}"; do scored "$name" 1 $LABELS; done
fi
if run frepo; then
  plain frepo-1 frepo
  condense s2d-frepo-1 "s2d_frepo_$SET.yaml" "${START[@]}" $(rates FREPO)
  for name in frepo-1 s2d-frepo-1; do scored "$name" 1 $LABELS; done
fi
if run tune; then # rates of motion and integrator, on clips held out of training; nothing here sees the test
  holdout
  condense tune/stills "static_dc_$SET.yaml" "${TUNE[@]}" --model.ipc 2
  START=(--model.init "$OUT/tune/stills/condensed")
  for lr in ${LRS_DM:-0.002 0.02 0.2}; do
    tune "s2d-dm-$lr" "s2d_dm_$SET.yaml" 1 hard "${DM[@]}" "${START[@]}" --model.optimizer.lr "$lr"
  done
  for lr in ${LRS_MTT:-0.002 0.02 0.2}; do
    tune "s2d-mtt-$lr" "s2d_mtt_$SET.yaml" 1 hard "${MTT[@]}" "${START[@]}" --model.optimizer.lr "$lr"
  done
  for lr in ${LRS_FREPO:-0.001 0.01 0.1}; do
    tune "s2d-frepo-$lr" "s2d_frepo_$SET.yaml" 1 hard "${START[@]}" --model.optimizer.lr "$lr"
  done
fi
if run report; then
  sets=()
  if [ "$SET" = grid ]; then
    full
    sets=("$OUT/full")
  fi
  for name in random-1 herding-1 static-dc-{1,2} dm-1 s2d-dm-1 mtt-1 s2d-mtt{,-noise,-deep}-1 frepo-1 s2d-frepo-1; do
    if [ -d "$OUT/$name/condensed" ]; then sets+=("$OUT/$name/condensed"); fi
  done
  vdc report "${sets[@]}" --out "$OUT/static"
fi
