"""What `python -m gxu bench` measures, apart from its command line."""
