#!/usr/bin/env bash
# Segmented matching (Wang 2024, sec. 3): (N_syn, N_real, K, I) cells of DM on ut_interaction_sq, 8 frames (stride 4) at
# 32 px, ipc 1, half-width CNN+GRU to match in and as student, protocol s2d (shortened to EPOCHS), SEEDS seeds of one
# condensation each. Beside them Random clips of as many frames, and all training videos. (Of GRID's digits such a
# network learns next to nothing from 10 clips, and 20 % from all.)
#   ROOT=<folder of ut_interaction_sq> OUT=runs/ut bash tools/experiments/segments.sh            (all cells)
#   ROOT=... OUT=... CELLS="2-8-2-duplicate 8-8-1-none" bash tools/experiments/segments.sh
# A cell is N_syn-N_real-K-I, with a last part `raw` where frames are compared as they are, not stretched to 8.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
OUT=$OUT/segments
EPOCHS=${EPOCHS:-300}
ITERATIONS=${ITERATIONS:-100}
SEEDS=${SEEDS:-3}
STRIDE=${STRIDE:-4}
INTERPOLATOR=$OUT/interpolator
# Table 1: N_syn = N_real, by interpolation; Figure 5: N_real against N_syn; Figure 6: segments; last: raw frames.
CELLS=${CELLS:-1-1-1-duplicate 2-2-1-duplicate 4-4-1-duplicate 2-2-1-linear_ends 4-4-1-linear_ends
  1-1-1-parametric 2-2-1-parametric 4-4-1-parametric 1-8-1-duplicate 2-8-1-duplicate 4-8-1-duplicate
  8-8-1-none 8-8-2-none 8-8-4-none 4-8-2-duplicate 4-8-4-duplicate 8-2-1-duplicate
  1-1-1-duplicate-raw 4-4-1-duplicate-raw 4-8-1-duplicate-raw 4-8-4-duplicate-raw}

student() { # folder of a set, name
  [ -f "$1/evaluations/$2.json" ] || vdc evaluate --condensed "$1" --data.root "$ROOT" \
    --config protocol_s2d.yaml --config protocol_s2d_gru_grid.yaml --protocol.epochs "$EPOCHS" --student cnn_gru --seeds "$SEEDS" --name "$2" --progress false
}

for cell in $CELLS; do
  IFS=- read -r syn real segments how raw <<< "$cell"
  more=()
  if [ "$how" = parametric ]; then
    [ -f "$INTERPOLATOR/interpolator.json" ] || vdc pretrain --config interpolator_grid.yaml --data.root "$ROOT" \
      --data.spec.stride "$STRIDE" --protocol.epochs 120 --out "$INTERPOLATOR"
    more+=(--data.spec.interpolator "$INTERPOLATOR")
  fi
  [ "$raw" != raw ] || more+=(--model.real.stretch false)
  condense "$cell" segments_dm_grid.yaml --model.iterations "$ITERATIONS" --model.real.segments "$segments" \
    --data.spec.stride "$STRIDE" --model.real.frames "$real" --data.spec.stored_frames "$syn" --data.spec.interpolation "$how" "${more[@]}"
  student "$OUT/$cell/condensed" "$cell"
done
for frames in ${RANDOMS-1 8}; do # what real clips, unlearnt, teach: `RANDOMS=` for none
  condense "random-$frames" random_grid.yaml --data.spec "{frames: 8, size: 32, stride: $STRIDE}" \
    --data.spec.stored_frames "$frames" --data.spec.interpolation duplicate
  student "$OUT/random-$frames/condensed" "random-$frames"
done
[ -f "$OUT/full/full.json" ] || [ -n "${SKIP_FULL-}" ] || vdc evaluate --full --data RealData --data.root "$ROOT" \
  --data.train train.txt --data.test test.txt --data.spec "{frames: 8, size: 32, stride: $STRIDE}" \
  --config protocol_s2d.yaml --config protocol_s2d_gru_grid.yaml --protocol.batch_size 16 --protocol.zeta 1 \
  --protocol.epochs "${FULL_EPOCHS:-60}" --student cnn_gru --seeds "$SEEDS" \
  --out "$OUT/full" --name full --progress false
vdc report "$OUT" --out "$OUT/report" > "$OUT/report.txt"
python3 - "$OUT" <<'TABLE' | tee "$OUT/cells.md"
import json, pathlib, sys
print("| cell | top-1 % | reference best | single frame | bytes |\n|---|---|---|---|---|")
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/condensed/evaluations/*.json")):
    r = json.loads(path.read_text())
    one, best, still = r["top1"], r["reference_best"]["top1"]["mean"], r["still_top1"]["mean"]
    print(f"| {r['name']} | {one['mean']:.1f} ± {one['std'] or 0:.1f} | {best:.1f} | {still:.1f} | {r['bytes']['total']:,} |")
TABLE
