#!/usr/bin/env bash
# The main job, end to end, on the built-in toy videos: teacher, Random and RDED at one item per class, 3 students each.
set -euo pipefail
cd "${DEMO_DIR:-.}"
vdc pretrain --config teacher_toy.yaml
for method in random rded; do
  vdc fit --config ${method}_toy.yaml
done
for method in random rded; do
  vdc evaluate --condensed runs/${method}_toy/condensed --student minic3d --seeds 3 --config protocol_demo.yaml \
    --teacher runs/teacher_toy
done
echo
vdc report runs/teacher_toy runs/random_toy/condensed runs/rded_toy/condensed --out runs/demo
echo "previews:    $(pwd)/runs/{random,rded}_toy/condensed/preview.{png,mp4}"
echo "TensorBoard: tensorboard --logdir $(pwd)/runs"
