#!/usr/bin/env bash
# Checks the tree without running it: style, types, locks and scripts. Changes nothing.
#
#   scripts/check.sh
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

failed=()

check() {
  local label=$1
  shift
  say "== $label"
  "$@" || failed+=("$label")
}

check_scripts() {
  local files=("$ROOT"/scripts/*.sh "$ROOT"/deploy/docker/*.sh "$ROOT/.ci/run") file status=0
  if [[ -x $VENV/bin/shellcheck ]]; then
    (cd "$ROOT" && "$VENV/bin/shellcheck" --external-sources "${files[@]}")
    return
  fi
  for file in "${files[@]}" "$LIB"/*.sh; do
    bash -n "$file" || status=1
  done
  return "$status"
}

main() {
  local paths=() path
  help_only "$@"
  bash "$ROOT/scripts/install.sh" --dev
  cd "$ROOT"
  for path in service.py yap quantization scripts models tests; do
    [[ ! -e $path ]] || paths+=("$path")
  done
  check "ruff check" "$VENV/bin/ruff" check .
  check "ruff format" "$VENV/bin/ruff" format --check .
  check "mypy" "$VENV/bin/mypy" "${paths[@]}"
  check "locks" bash scripts/lock.sh --check
  check "scripts" check_scripts
  ((${#failed[@]} == 0)) || die "failed: $(printf '%s; ' "${failed[@]}")see above"
  say "All checks passed."
}

main "$@"
