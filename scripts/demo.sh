#!/bin/sh
# Set up and run the main job on a photograph:  sh scripts/demo.sh [PHOTO]
# Without PHOTO it takes scikit-image's picture of an astronaut. Results go to demo/, the page to look at is
# demo/contact-sheet.png.
case "${1:-}" in "" | /*) photo="${1:-}" ;; *) photo="$PWD/$1" ;; esac
. "$(dirname "$0")/environment.sh"
rm -rf demo && mkdir demo
if [ -z "$photo" ]; then
    python -m pip install --quiet --disable-pip-version-check scikit-image
    photo=demo/astronaut.png
    python -c "import skimage.data, PIL.Image; PIL.Image.fromarray(skimage.data.astronaut()).save('$photo')"
fi
slic encode "$photo" -o demo/photo.slic
slic info demo/photo.slic
slic decode demo/photo.slic -o demo/decoded.png
slic recompress demo/decoded.png -o demo/recompressed.png
slic attack demo/photo.slic --op all --recompress -o demo/contact-sheet.png
echo "Look at demo/decoded.png, demo/recompressed.png and demo/contact-sheet.png."
