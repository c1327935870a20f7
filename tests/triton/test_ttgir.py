"""TTGIR files: kernels whose tiles carry a GPU's layouts compile to the same values without them."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from gxu.triton.errors import UnsupportedError

_BLOCKED = "#ttg.blocked<{sizePerThread=[1, 16], threadsPerWarp=[8, 4], warpsPerCTA=[4, 1], order=[1, 0]}>"
_MMA = "#ttg.nvidia_mma<{versionMajor=2, versionMinor=0, warpsPerCTA=[4, 1], instrShape=[16, 8]}>"
_DOT = f"#ttg.dot_op<{{opIdx=1, parent={_MMA}, kWidth=2}}>"
_LINEAR = (
    "#ttg.linear<{register=[[0, 16], [1, 0], [2, 0], [4, 0], [8, 0]], "
    "lane=[[0, 0], [0, 1], [0, 2], [0, 4], [0, 8]], warp=[[0, 0], [0, 0]], block=[]}>"
)
_SHARED = "#ttg.swizzled_shared<{vec=4, perPhase=2, maxPhase=4, order=[1, 0]}>"
_HEADER = 'module attributes {"ttg.num-warps" = 4 : i32, "ttg.num-ctas" = 1 : i32, "ttg.threads-per-warp" = 32 : i32}'


def row_sums(rows: int, columns: int, first: str, second: str, shared: bool) -> str:
    """A kernel that doubles a tile in another layout, perhaps by way of shared memory, and adds up its rows."""
    tile, other = f"{rows}x{columns}xf32, #first", f"tensor<{rows}x{columns}xf32, #second>"
    moved, alloc = "%v", ""
    if shared:
        memory = f"!ttg.memdesc<{rows}x{columns}xf32, #shared, #smem>"
        alloc = f"""
      %a = ttg.local_alloc %v : (tensor<{tile}>) -> {memory}
      %l = ttg.local_load %a : {memory} -> tensor<{tile}>"""
        moved = "%l"
    rows_slice = "#ttg.slice<{dim = 1, parent = #first}>"
    return f"""
#first = {first}
#second = {second}
#shared = {_SHARED}
#smem = #ttg.shared_memory
{_HEADER} {{
  tt.func public @row_sums(%x: !tt.ptr<f32>, %y: !tt.ptr<f32>, %scale: f32) {{
      %width = arith.constant dense<{columns}> : tensor<{rows}x1xi32, #first>
      %r = tt.make_range {{end = {rows} : i32, start = 0 : i32}} : tensor<{rows}xi32, {rows_slice}>
      %c = tt.make_range {{end = {columns} : i32, start = 0 : i32}}
        : tensor<{columns}xi32, #ttg.slice<{{dim = 0, parent = #first}}>>
      %r1 = tt.expand_dims %r {{axis = 1 : i32}} : tensor<{rows}xi32, {rows_slice}> -> tensor<{rows}x1xi32, #first>
      %c1 = tt.expand_dims %c {{axis = 0 : i32}}
        : tensor<{columns}xi32, #ttg.slice<{{dim = 0, parent = #first}}>> -> tensor<1x{columns}xi32, #first>
      %o = arith.muli %r1, %width : tensor<{rows}x1xi32, #first>
      %ob = tt.broadcast %o : tensor<{rows}x1xi32, #first> -> tensor<{rows}x{columns}xi32, #first>
      %cb = tt.broadcast %c1 : tensor<1x{columns}xi32, #first> -> tensor<{rows}x{columns}xi32, #first>
      %i = arith.addi %ob, %cb : tensor<{rows}x{columns}xi32, #first>
      %xs = tt.splat %x : !tt.ptr<f32> -> tensor<{rows}x{columns}x!tt.ptr<f32>, #first>
      %p = tt.addptr %xs, %i : tensor<{rows}x{columns}x!tt.ptr<f32>, #first>, tensor<{rows}x{columns}xi32, #first>
      %v = tt.load %p : tensor<{rows}x{columns}x!tt.ptr<f32>, #first>{alloc}
      %w = ttg.convert_layout {moved} : tensor<{tile}> -> {other}
      %s = tt.splat %scale : f32 -> {other}
      %d = arith.mulf %w, %s : {other}
      %b = ttg.convert_layout %d : {other} -> tensor<{tile}>
      %t = "tt.reduce"(%b) <{{axis = 1 : i32}}> ({{
      ^bb0(%m: f32, %n: f32):
        %z = arith.addf %m, %n : f32
        tt.reduce.return %z : f32
      }}) : (tensor<{tile}>) -> tensor<{rows}xf32, {rows_slice}>
      %ys = tt.splat %y : !tt.ptr<f32> -> tensor<{rows}x!tt.ptr<f32>, {rows_slice}>
      %q = tt.addptr %ys, %r : tensor<{rows}x!tt.ptr<f32>, {rows_slice}>, tensor<{rows}xi32, {rows_slice}>
      tt.store %q, %t : tensor<{rows}x!tt.ptr<f32>, {rows_slice}>
      tt.return
  }}
}}
"""


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [(_BLOCKED, _MMA, False), (_BLOCKED, _DOT, True), (_LINEAR, _BLOCKED, False), (_BLOCKED, _LINEAR, True)],
)
def test_layouts_change_no_value(first, second, shared, tmp_path):
    file = tmp_path / "row_sums.ttgir"
    file.write_text(row_sums(16, 32, first, second, shared))
    kernel = triton.compile(str(file))
    x = torch.randn(16, 32, device="gxu")
    y = torch.full((17,), -1.0, device="gxu")
    kernel[(1, 1, 1)](x.data_ptr(), y, 3.0)  # an address will do where a tensor would
    torch.testing.assert_close(y.cpu()[:16], (3 * x.cpu()).sum(1))
    assert y[16].item() == -1
    assert kernel.metadata.num_warps == 4
    assert "reduce arith.addf" in kernel.asm["loops"]


def test_shared_memory_that_is_written_later_is_refused(tmp_path):
    file = tmp_path / "later.ttgir"
    file.write_text(f"""
#shared = {_SHARED}
#smem = #ttg.shared_memory
{_HEADER} {{
  tt.func public @later(%x: !tt.ptr<f32>) {{
      %a = ttg.local_alloc : () -> !ttg.memdesc<16x32xf32, #shared, #smem, mutable>
      tt.return
  }}
}}
""")
    with pytest.raises(UnsupportedError, match=r"kernel later: .*local_alloc without a tile.* at .*later\.ttgir:6;"):
        triton.compile(str(file))


@triton.jit
def scaled(x, y, B: tl.constexpr):
    tl.store(y + tl.arange(0, B), tl.load(x + tl.arange(0, B)) * 2)


def test_ttgir_in_place_of_what_the_frontend_wrote(tmp_path):
    """``ir_override`` takes a .ttgir file, as it does a .ttir one."""
    compiled = scaled.warmup(torch.float32, torch.float32, B=32, grid=(1,))
    file = tmp_path / "other.ttgir"
    file.write_text(compiled.asm["ttir"].replace("2.0", "5.0"))
    x, y = torch.randn(32, device="gxu"), torch.zeros(32, device="gxu")
    scaled[(1,)](x, y, B=32, ir_override=str(file))
    assert torch.equal(y.cpu(), x.cpu() * 5)
