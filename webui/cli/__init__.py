"""The commands of `python3 app.py`, one file per group; each file says what it prints.

This package knows arguments, exit statuses and terminals. The work is done by the other rooms, which are imported only
when a command runs: `--help` answers without reading the settings.

    0  done
    1  failed: one line of cause and one of hint on standard error; a traceback only with GGUF_DEBUG=1
    2  wrong usage
  130  interrupted with Ctrl-C
"""

from webui.cli.application import main

__all__ = ["main"]
