#!/usr/bin/env bash
# Train nnU-Net 2.8.1 on a datalist and predict one of its splits: run.sh DATALIST DATASET_DIR OUTPUT SPLIT. nnU-Net's commands must be
# on PATH. Environment, all optional: PLAN, options of nnUNetv2_plan_experiment; TRAINER; DEVICE; WORKERS, which augment; LABELS, the datalist's label values
# in the place of 0, 1, 2, ...
set -euo pipefail
export nnUNet_raw=$3/nnUNet_raw nnUNet_preprocessed=$3/nnUNet_preprocessed nnUNet_results=$3/nnUNet_results
export nnUNet_extTrainer=$PWD/studies/nnunet
data=$nnUNet_raw/Dataset001_$(python -c "import json, sys; print(json.load(open(sys.argv[1]))['name'])" "$1")
how=(-p plan -tr "${TRAINER:-nnUNetTrainer}" -device "${DEVICE:-cuda}")
[ -d "$data" ] || python -m scripts.nnunet --datalist="$1" --dataset_dir="$2" --output="$nnUNet_raw" --split="$4"
nnUNetv2_extract_fingerprint -d 1 --verify_dataset_integrity
nnUNetv2_plan_experiment -d 1 -overwrite_plans_name plan ${PLAN:-}
nnUNetv2_preprocess -d 1 -plans_name plan -c 3d_fullres -np 2
cp "$data/splits_final.json" "$nnUNet_preprocessed/$(basename "$data")/"
env ${WORKERS:+nnUNet_n_proc_DA=$WORKERS} nnUNetv2_train 1 3d_fullres 0 "${how[@]}" --c
nnUNetv2_predict -i "$data/imagesTs" -o "$3/predictions" -d 1 -c 3d_fullres -f 0 "${how[@]}"
python - "$3/predictions" "${LABELS:-}" <<'PYTHON'
import sys
from pathlib import Path

import nibabel
import numpy as np

labels = np.array(sys.argv[2].split(","), np.uint8) if sys.argv[2] else None
for file in Path(sys.argv[1]).glob("*.nii.gz") if labels is not None else ():
    image = nibabel.load(file)
    nibabel.save(nibabel.Nifti1Image(labels[np.asarray(image.dataobj)], image.affine), file)
PYTHON
