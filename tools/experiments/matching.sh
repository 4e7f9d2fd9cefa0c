#!/usr/bin/env bash
# The matching family on grid_s1_digits beside Random, Herding, RDED and EDC, hard and soft labels; needs the sets of
# selection.sh and statistics.sh. Budgets are short: those of the grid configs. Students are instance-norm, as the
# networks that methods match in. PARTS picks from: experts others packed dm draws ncfm dc idc mtt datm
# frepo ipc5 report.
STUDENT=${STUDENT-_in}
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parts=" ${PARTS:-experts others packed dm draws ncfm dc idc mtt datm frepo ipc5 report} "

labelled() { # name, clips per class: hard labels, and the teacher's
  students "$1" "$2" hard
  soft "$1"
  students "$1" "$2" soft
}

run() { [[ $parts == *" $1 "* ]]; }

teacher
if run experts; then experts; fi
if run others; then
  for name in random-1 herding-1 rded-1 edc-1; do labelled $name 1; done
  students edc-start 1 hard
  for name in random herding; do students $name-5 5 hard; done
fi
if run packed; then # Random in the layout of IDC and NCFM: four clips of a quarter of the pixels each
  condense random-packed random_grid.yaml --model.memory MultiFormation --model.memory.factor 2
  labelled random-packed 4
fi
if run dm; then
  condense dm-1 dm_pool_grid.yaml --model.experts "$OUT/experts"
  labelled dm-1 1
  condense dm-nets-1 dm_grid.yaml # random networks, as published
  students dm-nets-1 1 hard
fi
if run draws; then # how much depends on the clips drawn: dm-1 starts from edc-start's
  condense random-1-b random_grid.yaml --seed_everything 1
  students random-1-b 1 hard
  for start in random-1 random-1-b; do
    condense dm-of-$start dm_pool_grid.yaml --model.experts "$OUT/experts" --model.init "$OUT/$start/condensed"
    students dm-of-$start 1 hard
  done
fi
if run ncfm; then
  condense ncfm-1 ncfm_grid.yaml --model.experts "$OUT/experts"
  labelled ncfm-1 4
fi
if run dc; then
  condense dc-1 dc_grid.yaml --model.experts "$OUT/experts"
  labelled dc-1 1
fi
if run idc; then
  condense idc-1 idc_grid.yaml
  labelled idc-1 4
fi
if run mtt; then
  condense mtt-1 mtt_grid.yaml --model.experts "$OUT/experts"
  labelled mtt-1 1
fi
if run datm; then
  condense datm-1 datm_grid.yaml --model.experts "$OUT/experts"
  students datm-1 1 hard && students datm-1 1 soft # soft: the learnt ones
fi
if run frepo; then
  condense frepo-1 frepo_grid.yaml
  students frepo-1 1 hard && students frepo-1 1 soft --protocol.loss soft_ce # soft: the learnt ones
fi
if run ipc5; then
  condense dm-5 dm_pool_grid.yaml --model.ipc 5 --model.experts "$OUT/experts"
  condense datm-5 datm_grid.yaml --model.ipc 5 --model.experts "$OUT/experts" --trainer.max_steps 60 --model.batch_syn 10 \
    --model.step_size 0.02
  labelled dm-5 5
  students datm-5 5 hard && students datm-5 5 soft
fi
if run report; then
  full
  results=("$OUT/full/full$STUDENT.json")
  for name in random-1 herding-1 rded-1 edc-start edc-1 random-packed {dm,dm-nets,ncfm,dc,idc,mtt,datm,frepo}-1 random-1-b dm-of-random-1{,-b} {random,herding,dm,datm}-5; do
    results+=("$OUT/$name/condensed/evaluations"/*"$STUDENT.json")
  done
  vdc report "${results[@]}" --out "$OUT/matching"
fi
