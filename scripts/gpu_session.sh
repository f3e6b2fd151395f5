#!/usr/bin/env bash
# Two commands for a quarter of an hour of one GPU, on a machine that has torch, numpy and safetensors, and no network:
#
#   scripts/gpu_session.sh wheels          here, before: fetches what the other machine lacks into .whl/
#   scripts/gpu_session.sh train OUT       there, at most 8 minutes: renders the heads, trains, leaves float16 weights
#   scripts/gpu_session.sh check OUT       there, at most 2 minutes: the same at tiny size on the GPU
#   scripts/gpu_session.sh try OUT         here: the first two at tiny size on the CPU
#
# Take along: this repository, .whl/ and outputs/assets/efflite1.safetensors.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON_VERSION=3.12  # of the other machine
# What the training imports besides torch, numpy and safetensors, which that machine has.
PACKAGES=(pydantic pydantic-core annotated-types typing-inspection typing-extensions pillow psutil pyyaml scipy)

use_wheels() {
    if compgen -G ".whl/*.whl" >/dev/null; then
        python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target /tmp/editgan-site .whl/*.whl
        export PYTHONPATH=/tmp/editgan-site${PYTHONPATH:+:$PYTHONPATH}
    fi
}

case "${1:-}" in
    wheels)
        for package in "${PACKAGES[@]}"; do
            pin=$(grep -i "^${package}==" constraints.txt || echo "$package")
            python3 -m pip download -q --no-deps --only-binary=:all: --python-version "$PYTHON_VERSION" \
                --implementation cp --platform manylinux_2_17_x86_64 --platform any -d .whl "$pin"
        done
        ls .whl
        ;;
    train)
        use_wheels
        exec timeout 480 python3 scripts/gpu_train.py --minutes 6 --out "${2:?where to}"
        ;;
    check)
        use_wheels
        exec timeout 120 python3 scripts/gpu_train.py --tiny --out "${2:?where to}"
        ;;
    try)
        exec python3 scripts/gpu_train.py --tiny --device cpu --out "${2:?where to}"
        ;;
    *)
        sed -n '2,10p' "$0"
        exit 2
        ;;
esac
