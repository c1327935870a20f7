from gxu.amp import *
