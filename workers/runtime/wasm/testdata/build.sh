#!/bin/sh
# Builds the guests of the tests. It needs clang with wasm-ld, wasi-libc, and wabt; the
# tests don't need it.
set -eu
cd "$(dirname "$0")"
flags='--target=wasm32-wasi -O2 -mbulk-memory -Wl,--strip-debug,-z,stack-size=16384'
clang $flags -fno-optimize-sibling-calls -mexec-model=reactor -o guest.wasm guest.c
clang $flags -o command.wasm command.c
for f in *.wat; do wat2wasm -o "${f%.wat}.wasm" "$f"; done
