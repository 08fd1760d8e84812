"""Lets one thread at a time import TensorFlow or MLflow, which takes seconds."""

import threading

# A Ctrl-C while two threads import can be lost, and then the command hangs: importlib deletes its
# locks in a callback of `weakref`, which waits there for the other thread. Python ignores the
# KeyboardInterrupt that is raised in such a callback, and importlib's own lock stays acquired.
import_lock = threading.Lock()
