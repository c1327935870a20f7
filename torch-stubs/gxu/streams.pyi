from gxu.streams import *
