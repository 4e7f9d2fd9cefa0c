#!/usr/bin/env bash
# The README's selection table: grid_s1_digits, 8 frames (stride 2) at 48 px, MiniC3D, 3 seeds.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

teacher
for ipc in ${IPCS:-1 5}; do
  condense "random-$ipc" random_grid.yaml --model.ipc $ipc
  for method in herding kcenter rded; do
    condense "$method-$ipc" "${method}_grid.yaml" --model.ipc $ipc --model.teacher "$TEACHER"
  done
  for method in ${METHODS:-random herding kcenter rded}; do
    students "$method-$ipc" $ipc hard
    views "$method-$ipc"
    students "$method-$ipc" $ipc views
  done
done
full
vdc report "$TEACHER" "$OUT/full" "$OUT"/{random,herding,kcenter,rded}-{1,5}/condensed --out "$OUT/selection"
