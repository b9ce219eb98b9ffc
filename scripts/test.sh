#!/bin/sh
# Set up and run the tests:  sh scripts/test.sh [PYTEST ARGUMENTS]
EXTRAS="[test,train]"
. "$(dirname "$0")/environment.sh"
exec python -m pytest "$@"
