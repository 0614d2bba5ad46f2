#!/usr/bin/env bash
# Builds the engine as WebAssembly into bunny-web/dist: bunny.wasm.gz, and the JavaScript beside it.
#
#   bunny-web/build.sh              without a model: pages fetch one
#   bunny-web/build.sh --inside     with the built-in model inside the module (6 MB more)
#   bunny-web/build.sh --npm        without one, and the package of npm in dist/npm, which has it beside the module
#   bunny-web/build.sh --kernels    the tests of bunny-kernels instead: kernels.wasm, for checks/kernels.mjs
#
# Takes the toolchain's own library for wasm32-unknown-unknown where there is one
# (`rustup target add wasm32-unknown-unknown`), else builds it: from rustup's `rust-src`, or from Debian's
# (`apt-get install rustc-web rust-web-src`, 12 and later). Where there is none, it exits with 3.
set -euo pipefail
cd "$(dirname "$0")"

target=wasm32-unknown-unknown
build=(cargo build --release --locked --target "$target")
case ${1:-} in
'' | --npm) ;;
--inside) build+=(--features builtin-model) ;;
--kernels) build=(cargo test --lib --no-run --release --locked --target "$target" --manifest-path ../bunny-kernels/Cargo.toml) ;;
*)
    echo "$1: --inside, --npm or --kernels, or nothing" >&2
    exit 2
    ;;
esac

# Random bits are the page's (src/host.rs). Whatever flags a shell has are for another target.
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS
export RUSTFLAGS="-C target-feature=+simd128 --cfg getrandom_backend=\"custom\" -C link-arg=-zstack-size=4194304"
out=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR=$out

has_std() { compgen -G "$("$1" --print sysroot)/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null; }
has_source() { [[ -f "$("$1" --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]]; }

rustc=${RUSTC:-rustc}
if has_std "$rustc"; then
    :
else
    if ! has_source "$rustc"; then
        # Debian's compiler for browsers, driven by whatever cargo is here.
        linker=$("$rustc" --print sysroot)/lib/rustlib/$("$rustc" -vV | sed -n 's/^host: //p')/bin/rust-lld
        rustc=/usr/bin/rustc
        if ! [[ -x $rustc ]] || ! has_source "$rustc"; then
            echo "no library of $target: rustup target add $target, or apt-get install rustc-web rust-web-src" >&2
            exit 3
        fi
        [[ -x $linker ]] || linker=$(command -v wasm-ld || command -v rust-lld || compgen -c wasm-ld- | head -1 || true)
        export RUSTC=$rustc CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$linker
    fi
    export RUSTC_BOOTSTRAP=1
    build+=(-Zbuild-std=std,panic_abort)
fi
mkdir -p dist
if [[ ${1:-} == --kernels ]]; then
    "${build[@]}" --message-format json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\.wasm\)".*/\1/p' | xargs -I{} cp {} dist/kernels.wasm
    exit
fi
"${build[@]}"
cp js/*.js js/*.ts dist/
gzip -9 -n <"$out/$target/release/bunny_web.wasm" >dist/bunny.wasm.gz
printf '%s bytes of WebAssembly, %s packed: bunny-web/dist/bunny.wasm.gz\n' \
    "$(stat -c %s "$out/$target/release/bunny_web.wasm")" "$(stat -c %s dist/bunny.wasm.gz)"
if [[ ${1:-} == --npm ]]; then
    node npm/package.mjs dist/bunny.wasm.gz dist/npm
    echo "the package: npm pack ./bunny-web/dist/npm"
fi
