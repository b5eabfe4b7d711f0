# The interpreter imports this before the user's script, because `headgate exec` put the folder on
# PYTHONPATH. No function may be here and nothing newer than Python 3.4: any Python may meet it.
import importlib.util
import os
import sys

_folder = os.path.dirname(__file__)
try:
    if sys.version_info >= (3, 10):
        import headgate_bootstrap

        headgate_bootstrap.start()
    else:
        with open(os.path.join(os.environ["HEADGATE_EXEC"], "too-old"), "w") as _file:
            _file.write("%d.%d" % sys.version_info[:2])
except Exception:
    pass
# From here on as if the folder had never been there: the script sees its own path, and the
# sitecustomize that this one shadows, if there is one, takes its place.
sys.path[:] = [_entry for _entry in sys.path if _entry != _folder]
sys.path_importer_cache.pop(_folder, None)
sys.modules.pop("sitecustomize", None)
_spec = importlib.util.find_spec("sitecustomize")
if _spec is None or _spec.loader is None:
    raise ImportError("No module named 'sitecustomize'", name="sitecustomize")
_module = importlib.util.module_from_spec(_spec)
sys.modules["sitecustomize"] = _module
_spec.loader.exec_module(_module)
