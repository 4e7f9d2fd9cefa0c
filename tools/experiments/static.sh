#!/usr/bin/env bash
# DM, MTT and FRePo on plain clips and on stills with motion clips, at equal or fewer bytes, and Static-DC.
# On grid_s1_digits hard labels, as in Wang 2024, and the teacher's; plain sets are those of matching.sh. With
# SET=toy, ROOT=<where the toy videos are or go>, IPC=5 and an OUT of its own: the toy set, hard labels.
# PARTS picks from: experts random stills dm mtt frepo, on the grid only pairs seeds deep tune, and report.
STUDENT=${STUDENT-_in}
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parts=" ${PARTS:-experts random stills dm mtt frepo report} "
SET=${SET:-grid}
IPC=${IPC:-1} # of a toy set one clip per class teaches nothing
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

plain() { # name, method, further flags: the same with plain clips
  local name=$1 method=$2
  shift 2
  set -- --model.ipc "$IPC" "$@"
  if [ "$SET" = grid ]; then
    condense "$name" "${method}_grid.yaml" "$@"
  else
    local -A rate=([dm]=0.02 [mtt]=0.005 [frepo]=0.002) # of the *_grid.yaml
    condense "$name" "s2d_${method}_toy.yaml" --model.memory Pixels --model.init real \
      --model.optimizer.lr "${rate[$method]}" "$@"
  fi
}

DM=(--model.experts "$OUT/experts")
MTT=(--model.experts "$OUT/experts")
if [ "$IPC" -gt 1 ]; then MTT+=(--trainer.max_steps 60); fi # a step takes as many times longer

if [ "$SET" = grid ]; then teacher; fi
if run experts; then vdc pretrain --config "experts_$SET.yaml" --data.root "$ROOT" --out "$OUT/experts"; fi
if run random; then # the clips that plain sets start from are another draw
  condense "random-$IPC" "random_$SET.yaml" --model.ipc "$IPC"
  scored "random-$IPC" "$IPC" $LABELS
fi
if run stills; then # one still per class is Static-DC; two start the pairs, and are also used alone
  for stills in "$IPC" $([ "$SET" = toy ] || echo $((2 * IPC))); do
    condense "static-dc-$stills" "static_dc_$SET.yaml" --model.ipc "$stills"
    scored "static-dc-$stills" "$stills" $LABELS
  done
fi
STILLS=(--model.init "$OUT/static-dc-$((2 * IPC))/condensed") # where motion clips start as noise, as published
CLIPS=(--model.init real --model.memory.init_args.motion clips --model.memory.init_args.lr_integrator 0)
if run dm; then # on GRID from the stills and, beside it, from clips; on the toy set, whose stills say nothing, from clips
  plain "dm-$IPC" dm "${DM[@]}"
  sets=(dm-$IPC s2d-dm-$IPC)
  if [ "$SET" = grid ]; then
    condense "s2d-dm-$IPC" s2d_dm_grid.yaml "${DM[@]}" "${STILLS[@]}" --model.ipc "$IPC"
    condense "s2d-dm-noise-$IPC" s2d_dm_noise_grid.yaml "${DM[@]}" "${STILLS[@]}" --model.ipc "$IPC"
    condense "s2d-dm-clips-$IPC" s2d_dm_grid.yaml "${DM[@]}" "${CLIPS[@]}" --model.ipc "$IPC"
    sets+=(s2d-dm-noise-$IPC s2d-dm-clips-$IPC)
  else
    condense "s2d-dm-$IPC" s2d_dm_toy.yaml "${DM[@]}" --model.ipc "$IPC"
  fi
  for name in "${sets[@]}"; do scored "$name" "$IPC" $LABELS; done
fi
if run pairs; then # other numbers of stills and motion clips (Wang 2024, Tab. 5); 2-2 is s2d-dm-1
  for pair in 1-1 1-2 2-1; do
    condense "s2d-dm-$pair" s2d_dm_grid.yaml "${DM[@]}" "${STILLS[@]}" \
      --model.memory.init_args.statics "${pair%-*}" --model.memory.init_args.dynamics "${pair#*-}"
    scored "s2d-dm-$pair" 1 $LABELS
  done
  condense s2d-dm-1-1-twice s2d_dm_grid.yaml "${DM[@]}" "${STILLS[@]}" --model.ipc 2 --model.memory.init_args.statics 1 \
    --model.memory.init_args.dynamics 1 --model.memory.init_args.budget 1 # two such items, in fewer bytes than a clip
  scored s2d-dm-1-1-twice 2 hard
fi
if run seeds; then # the same with other clips to start from, other noise and networks; the stills are those above
  for seed in 1 2; do
    condense "dm-1-seed$seed" dm_grid.yaml "${DM[@]}" --seed_everything "$seed"
    for pair in 1-1 2-2; do
      condense "s2d-dm-$pair-seed$seed" s2d_dm_grid.yaml "${DM[@]}" "${STILLS[@]}" --seed_everything "$seed" \
        --model.memory.init_args.statics "${pair%-*}" --model.memory.init_args.dynamics "${pair#*-}"
    done
    for name in dm-1 s2d-dm-{1-1,2-2}; do scored "$name-seed$seed" 1 hard; done
  done
fi
if run deep; then # the encoder-decoder, beside a convolution that is stored and learnt alike
  condense s2d-dm-deep s2d_dm_deep_grid.yaml "${DM[@]}" "${STILLS[@]}"
  condense s2d-dm-conv s2d_dm_deep_grid.yaml "${DM[@]}" "${STILLS[@]}" --model.memory.init_args.integrator conv
  for name in s2d-dm-{deep,conv}; do scored "$name" 1 $LABELS; done
fi
if run mtt; then
  plain "mtt-$IPC" mtt "${MTT[@]}"
  condense "s2d-mtt-$IPC" "s2d_mtt_$SET.yaml" "${MTT[@]}" --model.ipc "$IPC"
  for name in mtt-$IPC s2d-mtt-$IPC; do scored "$name" "$IPC" $LABELS; done
fi
if run frepo; then
  plain "frepo-$IPC" frepo
  condense "s2d-frepo-$IPC" "s2d_frepo_$SET.yaml" --model.ipc "$IPC"
  for name in frepo-$IPC s2d-frepo-$IPC; do scored "$name" "$IPC" $LABELS; done
fi
if run tune; then # rates and starts, on clips held out of training; nothing here sees the test
  holdout
  condense tune/stills static_dc_grid.yaml "${TUNE[@]}" --model.ipc 2
  STILLS=(--model.init "$OUT/tune/stills/condensed" --model.memory.init_args.motion noise)
  lr=--model.optimizer.init_args.lr integrator=--model.memory.init_args.lr_integrator
  export SEEDS=${SEEDS:-1}
  tune s2d-dm-start s2d_dm_grid.yaml 1 hard "${DM[@]}" "${CLIPS[@]}" --model.iterations 1 $lr 1e-6
  for rate in 0.02 0.1; do
    tune "s2d-dm-$rate" s2d_dm_grid.yaml 1 hard "${DM[@]}" "${STILLS[@]}" $lr $rate
    tune "s2d-mtt-$rate" s2d_mtt_grid.yaml 1 hard "${MTT[@]}" "${STILLS[@]}" $integrator 0.01 $lr $rate --trainer.max_steps 60
  done
  tune s2d-frepo-0.01 s2d_frepo_grid.yaml 1 hard "${STILLS[@]}" $integrator 0.01 $lr 0.01
  for rate in 0 0.001; do # of the integrator
    tune "s2d-dm-clips-$rate" s2d_dm_grid.yaml 1 hard "${DM[@]}" "${CLIPS[@]}" $integrator $rate
    tune "s2d-mtt-clips-$rate" s2d_mtt_grid.yaml 1 hard "${MTT[@]}" $integrator $rate --trainer.max_steps 60
  done
  tune s2d-frepo-clips s2d_frepo_grid.yaml 1 hard
fi
if run report; then
  sets=()
  if [ "$SET" = grid ]; then
    full
    sets=("$OUT/full")
  fi
  for name in {random,herding}-$IPC static-dc-{1,2,5,10} {s2d-,}{dm,mtt,frepo}-$IPC s2d-dm-{noise,clips}-$IPC \
    s2d-dm-{1-1,1-2,2-1,1-1-twice,conv,deep} dm-1-seed{1,2} s2d-dm-{1-1,2-2}-seed{1,2}; do
    if [ -d "$OUT/$name/condensed" ]; then sets+=("$OUT/$name/condensed"); fi
  done
  vdc report "${sets[@]}" --out "$OUT/static"
fi
