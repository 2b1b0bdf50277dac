#!/usr/bin/env bash
# Install PyTorch and everything else STARK needs; a second run only checks.
#
#   bash install_pytorch17.sh                  into the active conda or virtual environment,
#                                              else into .venv in this folder, made when missing
#   bash install_pytorch17.sh --dev            with what the tests need
#   bash install_pytorch17.sh --python         stdout is the environment's interpreter, for scripts
#   bash install_pytorch17.sh --download DIR   put all packages into a folder, to carry to a machine without internet
#   bash install_pytorch17.sh --offline DIR    install from such a folder
#   bash install_pytorch17.sh --lock           write requirements.lock: the newest versions that fit, with hashes
#
# Needs Python 3.10 or newer and no administrator rights. PYTHON=/path/to/python chooses the one .venv is made from.
# On a machine without a GPU, UV_TORCH_BACKEND=cpu saves 4 GB: PyTorch comes without CUDA's libraries.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 2; }

# The pair of PyTorch versions for this processor.
case $(uname -m) in
  aarch64 | arm64) torch_pins="torch==2.9.1 torchvision==0.24.1" ;;
  *) torch_pins="torch==2.14.1 torchvision==0.29.1" ;;
esac

is_recent_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }

# The first usable interpreter to make .venv from.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python; do
    if is_recent_python "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
    [[ $candidate != "${PYTHON:-}" ]] || fail "PYTHON=$PYTHON does not run or is older than Python 3.10"
  done
  local found
  found=$(python3 --version 2>/dev/null) || found="not installed"
  fail "no Python 3.10 or newer found (python3 is $found);" \
    "install one, or name it: PYTHON=/path/to/python3 bash install_pytorch17.sh"
}

# Sets `environment`, the folder to install into. Conda's base is left alone: it is active by default,
# and other environments build on it.
choose_environment() {
  environment=$root/.venv
  local active=${VIRTUAL_ENV:-}
  if [[ -z $active && ${CONDA_DEFAULT_ENV:-} != base ]]; then
    active=${CONDA_PREFIX:-}
  fi
  [[ -n $active ]] || return 0
  if [[ ! -x $active/bin/python ]]; then
    say "note: the active environment $active has no Python that runs; using $environment"
  elif ! is_recent_python "$active/bin/python"; then
    fail "the active environment $active has $("$active/bin/python" --version 2>&1);" \
      "STARK needs Python 3.10 or newer: activate another one, or deactivate it and .venv is used"
  else
    environment=$active
  fi
}

# One installation at a time. The lock is on a folder that exists anyway, so no lock file stays behind.
take_lock() {
  command -v flock >/dev/null || return 0
  exec 9<"$1"
  flock --nonblock 9 || { say "another installation is running here; waiting for it"; flock 9; }
}

make_venv() {
  if [[ -e $environment || -L $environment ]]; then
    is_recent_python "$environment/bin/python" && return
    say "note: $environment is broken or has an old Python; making it anew"
    rm -rf "$environment"
  fi
  local base
  base=$(find_python)
  say "making $environment with $("$base" --version)"
  if ! "$base" -m venv "$environment" >&2; then
    rm -rf "$environment"
    fail "$base cannot make a virtual environment (on Debian and Ubuntu the package python3-venv is needed)"
  fi
}

# Prints what has to be installed: the groups of pyproject.toml that argument 3 names; status 3 when some of it is missing.
probe='
import platform, re, sys
from importlib import metadata
try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib

def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

# Whether a package is for this processor and Python: what follows ";" reads like Python, versions aside.
def applies(condition):
    names = {"python_version": sys.version_info[:2], "platform_machine": platform.machine(), "sys_platform": sys.platform}
    versions = re.sub(r"([\x22\x27])(\d+)\.(\d+)\1", r"(\2, \3)", condition.strip() or "True")
    return eval(versions, names)

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
pins = sys.argv[2].split()
lines = project["dependencies"] + sum((project["optional-dependencies"][name] for name in sys.argv[3].split()), [])
lines = [line.partition(";") for line in lines if not re.match(r"torch(vision)?\b", line)]
wanted = pins + [package.strip() for package, _, condition in lines if applies(condition)]
# The OpenCV packages share one folder of files: a second one would damage the one that is there.
if any(map(version, ("opencv-python", "opencv-contrib-python", "opencv-python-headless"))):
    wanted = [line for line in wanted if not line.startswith("opencv-")]
print("# Python %d.%d in %s" % (*sys.version_info[:2], sys.prefix), *wanted, sep="\n")

def present(line):
    name, pin = re.match(r"([\w.-]+)(?:==(.+))?", line).groups()
    found = version(name)
    return found is not None and pin in (None, found, found.split("+")[0])

sys.exit(0 if all(map(present, wanted)) else 3)
'

# Installs the packages listed in file $1: with uv, five times as fast as pip, or with pip where uv does not work.
# The VOT toolkit asks for opencv-python, whose files would replace those of the OpenCV that is chosen here.
install_packages() {
  local uv=()
  if command -v uv >/dev/null; then
    uv=(uv)
  else
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null 2>&1 ||
      fail "$environment has neither pip nor ensurepip; install pip there, or put uv on the PATH"
    if "$python" -m pip install --quiet uv >&2; then
      uv=("$python" -m uv)
    fi
  fi
  if [[ ${#uv[@]} -gt 0 ]]; then
    # uv does not read pip's settings: a mirror that the user set there is meant for this, too.
    local index
    index=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}
    [[ -z $index ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    # Compiled at once: where Python may not write its caches (a container, a cluster), every start would compile anew.
    "${uv[@]}" pip install --compile-bytecode --python "$python" --requirement "$1" \
      --override <(echo 'opencv-python ; python_version < "3"') ${from[@]+"${from[@]}"} >&2 && return
  fi
  say "note: uv did not work here; installing with pip, which takes some minutes"
  {
    "$python" -m pip install --requirement "$1" ${from[@]+"${from[@]}"} &&
      if grep -q '^opencv-contrib-python-headless' "$1"; then
        "$python" -m pip uninstall --yes opencv-python &&
          "$python" -m pip install --force-reinstall --no-deps ${from[@]+"${from[@]}"} opencv-contrib-python-headless
      fi
  } >&2 ||
    fail "the packages could not be installed: see pip's message above (is the network reachable, is the disk full?)"
}

# The command `stark` in the environment, for the files of this folder.
install_command() {
  [[ -d $root/lib ]] || return 0
  "$python" -m uv pip install --quiet --python "$python" --no-deps --no-build-isolation --editable "$root" >&2 2>/dev/null ||
    "$python" -m pip install --quiet --no-deps --no-build-isolation --editable "$root" >&2 ||
    say "note: the command stark could not be installed; the scripts of tracking/ do the same"
}

# Pins every package that pyproject.toml names, and what these need.
lock_packages() {
  "$python" -m uv --version >/dev/null 2>&1 || "$python" -m pip install --quiet uv >&2 || fail "--lock needs uv"
  "$python" -m uv pip compile --quiet "$root/pyproject.toml" --all-extras --generate-hashes --no-annotate --no-header \
    --override <(echo 'opencv-python ; python_version < "3"') --constraint <(printf '%s\n' $torch_pins) >"$1" ||
    fail "the versions could not be resolved: see uv's message above"
  {
    echo "# Made by \`bash install_pytorch17.sh --lock\` with $("$python" --version) on $(uname -sm);"
    echo "# \`uv pip sync requirements.lock\` installs exactly this."
    cat "$1"
  } >"$root/.requirements.lock" && mv "$root/.requirements.lock" "$root/requirements.lock"
}

# Everything that an installation takes, installers included.
download_packages() {
  "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null 2>&1 || fail "--download needs pip"
  # Wheels: what has none is built here, because building takes more packages.
  "$python" -m pip wheel --wheel-dir "$2" --requirement "$1" uv pip setuptools >&2 ||
    fail "the packages could not be downloaded: see pip's message above"
}

# Only after an installation: importing PyTorch takes seconds.
check_imports() {
  "$python" - >&2 <<'PY' || fail "the packages are installed but do not import: see the message above"
import cv2, torch, torchvision
print(f"PyTorch {torch.__version__}, torchvision {torchvision.__version__}, OpenCV {cv2.__version__}; "
      f"CUDA {'available' if torch.cuda.is_available() else 'not available: runs on the CPU'}")
PY
}

print_python=no
groups="train engines web vot"
download="" lock="" from=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --python) print_python=yes ;;
    --dev) groups+=" dev" ;;
    --lock) lock=yes ;;
    --download | --offline)
      [[ -n ${2:-} ]] || fail "$1 needs a folder"
      if [[ $1 == --download ]]; then
        download=$2
      else
        [[ -d $2 ]] || fail "$1: there is no folder $2"
        from=(--no-index --find-links "$(cd "$2" && pwd)")
      fi
      shift ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) fail "unknown argument $1; see bash install_pytorch17.sh --help" ;;
  esac
  shift
done

choose_environment
if [[ $environment == "$root/.venv" ]]; then
  take_lock "$root"
  make_venv
else
  take_lock "$environment"
fi
python=$environment/bin/python
stamp=$environment/.stark-installed
list=$(mktemp "${TMPDIR:-/tmp}/stark-requirements.XXXXXX")
trap 'rm -f "$list"' EXIT

# Writes the list; its status says whether all of it is there.
find_wanted() {
  local status=0
  "$python" -c "$probe" "$root/pyproject.toml" "$torch_pins" "$groups" >"$list" || status=$?
  [[ -s $list ]] || fail "cannot read $root/pyproject.toml with $python"
  return $status
}

complete=yes
find_wanted || complete=no
if [[ -n $download ]]; then
  download_packages "$list" "$download"
  say "ready: bash install_pytorch17.sh --offline \"$download\" on a machine with the same processor and Python"
  exit 0
fi
if [[ -n $lock ]]; then
  lock_packages "$list"
  say "wrote $root/requirements.lock"
  exit 0
fi
# The stamp holds what was installed, which may be more, such as what tests need.
if [[ $complete == no || ! -f $stamp || (-d $root/lib && ! -x $environment/bin/stark) ]] || grep --quiet -vxFf "$stamp" "$list"; then
  say "installing into $environment (PyTorch is large: about a minute)"
  before=$(cat "$stamp" 2>/dev/null || true)
  rm -f "$stamp"
  install_packages "$list"
  check_imports
  install_command
  # The probe again: the installation changed what is there.
  find_wanted || fail "some packages are still missing in $environment"
  printf '%s\n' "$before" "$(<"$list")" >"$stamp"
fi

if [[ $print_python == yes ]]; then
  printf '%s\n' "$python"
else
  say "ready: $python"
  [[ ${VIRTUAL_ENV:-${CONDA_PREFIX:-}} == "$environment" ]] || say "activate it with: source \"$environment/bin/activate\""
fi
