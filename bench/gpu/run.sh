#!/usr/bin/env bash
# Measures all that lies in this folder, on a GPU or with --cpu, within --minutes; --help says more.
# PYTHON names a Python with torch 2.11.0 [default: python3].
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
if ! command -v -- "$python" >/dev/null; then
    echo "error: there is no $python: name a Python with torch 2.11.0, as in PYTHON=/opt/torch/bin/python $0" >&2
    exit 2
fi
exec "$python" "$here/run.py" "$@"
