#!/bin/sh
# Builds the engine and the extension with the address sanitizer, in build/address, and runs tests on them: those named
# as arguments, else the ones of memory, streams, operators and graphs.
#
# PYTHON names an interpreter that has gxu's requirements (default: .venv's). Objects are kept: a second run compiles what
# has changed.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
tree=$root/build/address
python=${PYTHON:-$root/.venv/bin/python}
compiler=${CXX:-g++}

mkdir -p "$tree"
cd "$root"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --update --preserve=mode,timestamps -t "$tree"

cd "$tree"
CXXFLAGS="-fsanitize=address -fno-omit-frame-pointer -O1" "$python" setup.py -q build_ext --inplace >build.log

if [ $# -eq 0 ]; then
  set -- tests/test_direct_operators.py tests/test_delegate.py tests/test_copy.py tests/test_streams.py \
    tests/test_graphs.py tests/test_memory.py tests/test_memory_blocks.py tests/test_memory_failures.py \
    tests/test_memory_snapshot.py tests/test_random.py tests/test_layouts.py tests/test_dlpack.py tests/test_sharing.py
fi
# Python and torch were not built with the sanitizer, so its library has to be loaded before them, together with the C++
# library, whose exceptions it watches; and what they leave allocated at exit says nothing.
LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libstdc++.so)"
export LD_PRELOAD
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:${ASAN_OPTIONS:-}"
export PYTHONPATH="$tree${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m pytest -p no:cacheprovider -q "$@"
