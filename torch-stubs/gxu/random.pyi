from gxu.random import *
