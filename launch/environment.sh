# Sourced by the launch scripts: makes .venv with this project and the extras named in $EXTRAS, unless it has them and setup.py has not changed.
# What another script has put there stays.
# PYTHON names another interpreter (3.11 or newer); VENV another place.

VENV="${VENV:-.venv}"
# A step's buffers are mapped anew each time: in pages of 4 KiB their faults cost time on a CPU (README, "Measured"). Read by glibc alone, at a process's start.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"

find_python() {
  local candidate candidates=(python3 python3.13 python3.12 python3.11)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python 3.11 or newer (tried ${candidates[*]}): install one, or set PYTHON=/path/to/python" >&2
  return 1
}

# An environment that is there has an interpreter already: one that is asked for by name is not passed over in silence.
check_python() {
  local version='import sys; print("Python %d.%d" % sys.version_info[:2])' asked there
  [ -n "${PYTHON:-}" ] && [ -x "$VENV/bin/python" ] || return 0
  asked="$("$PYTHON" -c "$version" 2>/dev/null)" || return 0 # find_python says so, if it is needed
  there="$("$VENV/bin/python" -c "$version")"
  [ "$asked" != "$there" ] || return 0
  echo "error: PYTHON=$PYTHON is $asked, and $VENV has $there: remove $VENV, or name another place with VENV=" >&2
  return 1
}

make_environment() {
  local stamp made have="" extra missing="" python
  stamp="$VENV/installed" # setup.py's checksum, and the extras
  made="$(cksum < setup.py)"
  if [ -x "$VENV/bin/python" ] && [ "$(head -n 1 "$stamp" 2>/dev/null)" = "$made" ]; then
    have="$(tail -n +2 "$stamp")"
  fi
  for extra in ${EXTRAS//,/ }; do
    case ",$have," in
      *",$extra,"*) ;;
      *) missing=1 have="${have:+$have,}$extra" ;;
    esac
  done
  [ -n "$missing" ] || return 0
  python="$(find_python)" || return 1
  echo "installing into $VENV (once)" >&2
  "$python" -m venv "$VENV"
  # uv resolves and downloads several times faster than pip. Compiled once here and not at the first import: that takes TensorFlow 12 s, and every
  # time where PYTHONDONTWRITEBYTECODE is set.
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check uv
  "$VENV/bin/uv" pip install --quiet --compile-bytecode --python "$VENV/bin/python" --editable ".[$have]"
  printf '%s\n' "$made" "$have" > "$stamp"
}

check_python
make_environment
