# Sourced by demo.sh and test.sh: a virtual environment in .venv, made on first use, with slic in it.
# EXTRAS names the extras to install; PYTHON the interpreter to make it with.
set -eu
cd "$(dirname "$0")/.."
if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".${EXTRAS:-}"
PATH="$PWD/.venv/bin:$PATH"
