#!/usr/bin/env bash
# Builds the Python wheel that carries bunny-cli, installs it into a fresh environment, and talks with it.
#
#   packaging/wheel.sh [OUT]            the wheel goes to OUT, or dist/
#   packaging/wheel.sh --dry-run        checks what can be checked without compiling, and says the commands
#
# FEATURES are those of bunny-cli (cuda,vulkan unless given; empty for none), PROFILE is cargo's (release
# unless given), PYTHON an interpreter of 3.8 or later.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
features=${FEATURES-cuda,vulkan}
profile=${PROFILE:-release}
maturin="maturin>=1.9,<2"

if [ "${1:-}" = --dry-run ]; then
    "$python" - "$here" "$features" <<'PY'
import ast, pathlib, sys

def table(file, name):
    """The lines `key = value` of a table; strings and lists of one line are written as in Python."""
    found, inside = {}, False
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            inside = line.strip() == f"[{name}]"
        elif inside and " = " in line and not line.startswith("#"):
            key, value = line.split(" = ", 1)
            found[key] = value
    return found

here, features = pathlib.Path(sys.argv[1]), [name for name in sys.argv[2].split(",") if name]
project = table(here / "pyproject.toml", "project")
build = table(here / "pyproject.toml", "tool.maturin")
manifest = here / ast.literal_eval(build["manifest-path"])
unknown = {*features, *ast.literal_eval(build["features"])} - set(table(manifest, "features"))
assert not unknown, f"{manifest} has no features {sorted(unknown)}"
assert project["name"] == table(manifest, "package")["name"]
assert (here / ast.literal_eval(project["readme"])).is_file()
PY
    echo "would build a wheel of bunny-cli in profile $profile with features ${features:-none},"
    echo "install it into a fresh environment of $("$python" --version), and ask it about examples/pictures/shapes.jpg"
    exit
fi

out=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/build"
"$work/build/bin/pip" install --quiet "$maturin"
# The features of pyproject.toml are for those who build by pip.
sed '/^features = /d' "$here/pyproject.toml" > "$work/pyproject.toml"
sed -i "s|../bunny-cli/Cargo.toml|$here/../bunny-cli/Cargo.toml|" "$work/pyproject.toml"
cp "$here/README.md" "$work/README.md"
(cd "$work" && "$work/build/bin/maturin" build --profile "$profile" --out "$out" ${features:+--features "$features"})
wheel=$(ls -t "$out"/bunny_cli-*.whl | head -1)

"$python" -m venv "$work/tried"
"$work/tried/bin/pip" install --quiet --no-index "$wheel"
answer=$("$work/tried/bin/bunny-cli" chat --image "$here/../examples/pictures/shapes.jpg" \
    --prompt "What number is written in the picture?")
[[ $answer == *921* ]] || { echo "the installed program says: $answer" >&2; exit 1; }
echo "$wheel: $(du -h "$wheel" | cut -f1); installed, it says: $answer"
