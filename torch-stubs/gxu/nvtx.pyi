from gxu.nvtx import *
