"""The command line, `python -m gxu COMMAND`: one module a command, listed in `main.py`."""
