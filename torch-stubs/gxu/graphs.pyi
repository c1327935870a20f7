from gxu.graphs import *
