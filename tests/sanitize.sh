#!/bin/sh
# Builds the engine and the extension with a sanitizer, in build/$SANITIZER, and runs tests on them: those named as
# arguments, else the runtime's and the ones of memory, streams, operators, graphs and many threads.
#
# SANITIZER is address (the default) or thread. PYTHON names an interpreter that has gxu's requirements (default:
# .venv's). Objects are kept: a second run compiles what has changed. tests/sanitize.supp has what is suppressed.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
sanitizer=${SANITIZER:-address}
tree=$root/build/$sanitizer
python=${PYTHON:-$root/.venv/bin/python}
compiler=${CXX:-g++}

case $sanitizer in
address) flags= ;;
# libgomp's barriers look like data races to the thread sanitizer: the engine brings a team of its own for it.
thread) flags=-DGXU_NO_OPENMP ;;
*)
  echo "SANITIZER must be address or thread, and is $sanitizer" >&2
  exit 2
  ;;
esac

mkdir -p "$tree"
cd "$root"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --update --preserve=mode,timestamps -t "$tree"

cd "$tree"
CXXFLAGS="-fsanitize=$sanitizer -fno-omit-frame-pointer -O1 $flags" "$python" setup.py -q build_ext --inplace >build.log
# Entry points, by which torch and Triton find gxu: it may not be installed.
"$python" setup.py -q egg_info

if [ $# -eq 0 ]; then
  set -- tests/test_direct_operators.py tests/test_delegate.py tests/test_copy.py tests/test_streams.py \
    tests/test_graphs.py tests/test_memory.py tests/test_memory_blocks.py tests/test_memory_failures.py \
    tests/test_memory_snapshot.py tests/test_random.py tests/test_layouts.py tests/test_dlpack.py tests/test_sharing.py \
    tests/test_robustness.py tests/runtime
  # Programs with sanitizers of their own; what the library is linked with, which is also the sanitizer here.
  set -- "$@" --ignore tests/runtime/test_runtime_stress.py --ignore tests/runtime/test_cuda_engine_stress.py \
    --deselect tests/runtime/test_cuda_engine.py::test_library_needs_neither_cuda_nor_torch
fi
# Python and torch were not built with the sanitizer, so its library has to be loaded before them, together with the C++
# library, whose exceptions it watches; and what they leave allocated at exit says nothing.
case $sanitizer in
address) library=libasan.so ;;
thread) library=libtsan.so ;;
esac
LD_PRELOAD="$("$compiler" -print-file-name=$library) $("$compiler" -print-file-name=libstdc++.so)"
export LD_PRELOAD
# The engine answers for faults of kernels itself, and tests make some; others ask for more memory than there can be.
signals=handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:$signals:${ASAN_OPTIONS:-}"
export TSAN_OPTIONS="halt_on_error=1:die_after_fork=0:ignore_noninstrumented_modules=1:allocator_may_return_null=1:\
$signals:suppressions=$root/tests/sanitize.supp:${TSAN_OPTIONS:-}"
export PYTHONPATH="$tree${PYTHONPATH:+:$PYTHONPATH}"
# The thread sanitizer wants its shadow memory where random addresses may lie.
fixed=$(setarch -R true 2>/dev/null && echo "setarch -R" || true)
exec $fixed "$python" -m pytest -p no:cacheprovider -q "$@"
