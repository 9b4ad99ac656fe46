#!/bin/sh
# Prints the newest Python on PATH that can make our virtual environment, or says what is missing.
# Usage: find-python.sh HIGHEST_MINOR [CANDIDATE...]
highest=$1
shift
[ $# -gt 0 ] || set -- python3.13 python3.12 python3.11 python3.10 python3 python

# Asked by running it: a pyenv shim, say, may be on PATH and run nothing.
suits="import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $highest))"

for python in "$@"; do
  if "$python" -c "$suits" 2>/dev/null && "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python"
    exit 0
  fi
done

for python in "$@"; do
  if "$python" -c "$suits" 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "$python (Python $version) cannot make virtual environments: its venv or ensurepip module is missing." >&2
    echo "On Debian and Ubuntu: apt install python$version-venv. Or name another one: make PYTHON=/path/to/python3 ..." >&2
    exit 1
  fi
done
echo "This needs Python 3.10 to 3.$highest; none of these runs and fits: $*." >&2
echo "Install one, or name it: make PYTHON=/path/to/python3 ..." >&2
exit 1
