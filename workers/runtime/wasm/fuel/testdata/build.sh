#!/bin/sh
# Builds kernels.wasm with clang 14 or later.
clang --target=wasm32 -O2 -msimd128 -mbulk-memory -nostdlib -fno-builtin -Wl,--no-entry -Wl,-z,stack-size=65536 -o kernels.wasm kernels.c
