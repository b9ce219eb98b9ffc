#!/bin/sh
# Table 3 with small codecs, one for each metric, all from one base:  sh scripts/table3.sh PHOTOS KODAK BACKBONE
# PHOTOS is trained on, KODAK is measured, BACKBONE has VGG16's weights (docs/training.md). Everything goes to
# runs/table3, and what is there already is not made again. slic must be installed with its extra "train".
set -eu
photographs=$1 kodak=$2 backbone=$3
runs=runs/table3
metrics="lpips dists vgg gmsd nlpd mse ms-ssim"

model() {
    echo "$runs/$1/table3-$1-q4.safetensors"
}

train() { # NAME OF THE DIRECTORY, further arguments of slic train
    directory=$1
    shift
    [ -f "$(model "$directory")" ] || slic train table3 --data "$photographs" --out "$runs/$directory" \
        --name "table3-$directory-q4" --no-register --resume "$@"
}

train none --stage base
for metric in $metrics; do
    train "$metric" --stage slic --metric "$metric" --start "$runs/none/base.ckpt" --backbone "$backbone"
done

set -- "$kodak" --tables 3,sheets --output "$runs/report"
for metric in none $metrics; do
    set -- "$@" --model "$(model "$metric")"
done
for edit in crop blur median lighten sharpen equalize affine jpeg; do
    set -- "$@" --op "$edit"
done
slic evaluate "$@"
