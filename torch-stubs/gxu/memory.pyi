from gxu.memory import *
from gxu.memory import _dump_snapshot as _dump_snapshot
from gxu.memory import _record_memory_history as _record_memory_history
from gxu.memory import _save_memory_usage as _save_memory_usage
from gxu.memory import _save_segment_usage as _save_segment_usage
from gxu.memory import _snapshot as _snapshot
